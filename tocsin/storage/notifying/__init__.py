"""Who is notified when: what is stored about silences, dependencies, on-call schedules and turns."""
