-- columns and tables are called what the rest of the house, and the field, calls them; stop older processes first
-- depends: 0014_resources

-- migrate: apply

ALTER TABLE ongoing RENAME COLUMN told TO recipients;
ALTER TABLE outstanding RENAME COLUMN crossed TO past_no_return;
ALTER TABLE outstanding RENAME COLUMN behind TO blocked_by;
ALTER TABLE outstanding RENAME COLUMN followed TO blocks_another;
ALTER INDEX outstanding_behind RENAME TO outstanding_blocked_by;

ALTER TABLE tallies RENAME TO counters;
ALTER TABLE listening RENAME TO api_heartbeat;
ALTER TABLE server_states RENAME COLUMN silent_at TO downtime_check_at;
ALTER INDEX server_states_silent RENAME TO server_states_downtime_check;
ALTER TABLE gathered RENAME TO rollups;

ALTER TABLE texts RENAME TO sms;
ALTER INDEX texts_by_number RENAME TO sms_by_number;
ALTER INDEX texts_by_project RENAME TO sms_by_project;
ALTER INDEX texts_of_summary RENAME TO sms_of_summary;
ALTER INDEX texts_old RENAME TO sms_old;
ALTER TABLE text_summaries RENAME TO sms_summaries;
ALTER INDEX text_summaries_by_number RENAME TO sms_summaries_by_number;
ALTER TABLE text_limits_told RENAME TO sms_limit_notices;
ALTER TABLE text_reports RENAME TO sms_reports;
ALTER TABLE sms_reports RENAME COLUMN said TO status_text;
ALTER INDEX text_reports_old RENAME TO sms_reports_old;

UPDATE audit SET who = 'a recipient of its emails' WHERE who = 'a reader of its mails';
UPDATE audit SET action = 'stopped attaching integration to new resources'
WHERE action = 'keeps integration from what is to come';

-- migrate: rollback

UPDATE audit SET action = 'keeps integration from what is to come'
WHERE action = 'stopped attaching integration to new resources';
UPDATE audit SET who = 'a reader of its mails' WHERE who = 'a recipient of its emails';

ALTER INDEX sms_reports_old RENAME TO text_reports_old;
ALTER TABLE sms_reports RENAME COLUMN status_text TO said;
ALTER TABLE sms_reports RENAME TO text_reports;
ALTER TABLE sms_limit_notices RENAME TO text_limits_told;
ALTER INDEX sms_summaries_by_number RENAME TO text_summaries_by_number;
ALTER TABLE sms_summaries RENAME TO text_summaries;
ALTER INDEX sms_old RENAME TO texts_old;
ALTER INDEX sms_of_summary RENAME TO texts_of_summary;
ALTER INDEX sms_by_project RENAME TO texts_by_project;
ALTER INDEX sms_by_number RENAME TO texts_by_number;
ALTER TABLE sms RENAME TO texts;

ALTER TABLE rollups RENAME TO gathered;
ALTER INDEX server_states_downtime_check RENAME TO server_states_silent;
ALTER TABLE server_states RENAME COLUMN downtime_check_at TO silent_at;
ALTER TABLE api_heartbeat RENAME TO listening;
ALTER TABLE counters RENAME TO tallies;

ALTER INDEX outstanding_blocked_by RENAME TO outstanding_behind;
ALTER TABLE outstanding RENAME COLUMN blocks_another TO followed;
ALTER TABLE outstanding RENAME COLUMN blocked_by TO behind;
ALTER TABLE outstanding RENAME COLUMN past_no_return TO crossed;
ALTER TABLE ongoing RENAME COLUMN recipients TO told;
