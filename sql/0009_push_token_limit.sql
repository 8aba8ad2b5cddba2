-- How often a phone may change its push token and have its open commands pushed again: a phone that changes it without
-- end made FCM refuse the whole fleet. The limit is counted here, so that it holds across replicas. Adds a column
-- without a default: devices is locked for an instant, no row is rewritten. The previous release ignores it.

alter table devices
  add column fcm_token_due_at timestamptz; -- open commands go to fcm_token from then on; null or past: at once
