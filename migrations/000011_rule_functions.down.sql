BEGIN;

DROP FUNCTION ride_is_sound;
DROP FUNCTION idempotency_key_is_sound;

COMMIT;
