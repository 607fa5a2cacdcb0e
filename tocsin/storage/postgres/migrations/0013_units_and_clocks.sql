-- what an agent's CPU figures are in, and machines whose clock is wrong
-- depends: 0010_audit_by_who

-- migrate: apply

ALTER TABLE servers ADD COLUMN cpu_unit text;                  -- 'units' of 1,024 a core, once it was seen; domain/cpu.py
ALTER TABLE server_states ADD COLUMN clock jsonb;              -- of a clock that is (or may be) wrong; domain/clocks.py

-- migrate: rollback
