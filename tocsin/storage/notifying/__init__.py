"""What decides who is told when: turns, silences, dependencies, on-call schedules."""
