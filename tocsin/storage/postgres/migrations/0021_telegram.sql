-- Telegram: its bots, the codes by which chats are found; and messages of any channel that are updated in place
-- depends: 0020_replays

-- migrate: apply

ALTER TABLE slack_messages RENAME TO posted_messages;
ALTER TABLE posted_messages RENAME COLUMN channel_id TO place;  -- the channel or chat, as its service calls it
ALTER TABLE posted_messages RENAME COLUMN ts TO name;           -- what a message is called by there
ALTER INDEX slack_messages_pkey RENAME TO posted_messages_pkey;
ALTER INDEX slack_messages_old RENAME TO posted_messages_old;

-- One for each bot: what is written to it is read by one engine at a time.
CREATE TABLE telegram_bots (
    bot_id      text PRIMARY KEY,
    next_update bigint NOT NULL DEFAULT 0,                     -- the first update that was not acted upon; 0: unknown
    due_at      timestamptz NOT NULL DEFAULT now(),            -- when it is read next; while it is leased: until when
    engine      bigint,                                        -- the one that reads it now
    problem     text                                           -- why it cannot be read
) WITH (fillfactor = 50);
CREATE INDEX integrations_telegram ON integrations ((settings->>'bot_id'), (settings->>'chat_id'))
    WHERE type = 'Integrations::TelegramIntegration';

-- Good once, and for ten minutes.
CREATE TABLE telegram_codes (
    integration_id uuid PRIMARY KEY REFERENCES integrations ON DELETE CASCADE,
    bot_id         text NOT NULL,
    hash           bytea NOT NULL,                             -- keyed: the code itself is known to nobody but its reader
    tries_left     integer NOT NULL,
    made_at        timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX telegram_codes_by_bot ON telegram_codes (bot_id);

-- migrate: rollback

DROP TABLE telegram_codes, telegram_bots;
DROP INDEX integrations_telegram;
DELETE FROM posted_messages m USING integrations i
WHERE i.id = m.integration_id AND i.type = 'Integrations::TelegramIntegration';
ALTER INDEX posted_messages_old RENAME TO slack_messages_old;
ALTER INDEX posted_messages_pkey RENAME TO slack_messages_pkey;
ALTER TABLE posted_messages RENAME COLUMN name TO ts;
ALTER TABLE posted_messages RENAME COLUMN place TO channel_id;
ALTER TABLE posted_messages RENAME TO slack_messages;
