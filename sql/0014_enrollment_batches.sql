-- A lost answer of POST /v1/enroll-tokens can be asked for again by its Idempotency-Key. No token is stored: the service
-- makes each of a batch from HMAC_SECRET and this seed, so that neither alone gives one away, and after a day the seed is
-- deleted. New table: no lock on anything live. The previous release ignores it, and the key with it.

create table enrollment_batches (
  admin text not null,
  idempotency_key text not null,
  content_hash bytea not null check (octet_length(content_hash) = 32), -- of what was asked for: the same key is no other's
  seed bytea not null unique check (octet_length(seed) = 32),
  token_ids uuid[] not null, -- in the order of the answer
  created_at timestamptz not null default now(),
  primary key (admin, idempotency_key)
);
create index enrollment_batches_age on enrollment_batches (created_at);
