-- Checks that the rows that were there before 000003 keep its rules. It locks
-- out neither reads nor writes.

BEGIN;

ALTER TABLE idempotency_keys VALIDATE CONSTRAINT idempotency_keys_point_of_flow;
ALTER TABLE rides VALIDATE CONSTRAINT rides_refund_whole;
ALTER TABLE rides VALIDATE CONSTRAINT rides_refund_status_known;
ALTER TABLE rides VALIDATE CONSTRAINT rides_canceled_is_refunded;

COMMIT;
