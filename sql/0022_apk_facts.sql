-- An APK is the truth about itself: what is read from it when it is published, who signed it, and whether the build is staged.
-- Builds of the release before are read in the background (package is null until then; what cannot be read has `unreadable`).
-- A build that was stored staged and never released keeps `staged`. It has withdrawn_at, so that the previous release, which
-- knows no stages, gives it to no phone; withdrawn_by only once an admin has withdrawn it.
-- The first build of a package pins its signers; others replace them when a build goes live that may do so. Version code 0 is Android's for an APK without one.
-- Locks apk_builds for moments: the columns rewrite no row, check and indexes read the builds once.

alter table apk_builds
  add column package text,
  add column min_sdk integer,
  add column target_sdk integer,
  add column debuggable boolean,
  add column signing text check (signing in ('v1', 'v2', 'v3', 'none')),
  add column signers text[], -- SHA-256 of the certificates, hex, sorted
  add column unreadable text,
  add column staged boolean not null default false,
  add column released_at timestamptz, -- null: live since it was published
  add column replaces text[], -- of a staged build: pinned signers, joined by commas, that its own may replace at its release
  add constraint apk_builds_staged check (not staged or withdrawn_at is not null),
  drop constraint apk_builds_version_code_check,
  add constraint apk_builds_version_code_check check (version_code >= 0);
create index apk_builds_unread on apk_builds ((withdrawn_at is not null), published_at desc)
  where package is null and unreadable is null;
-- The package of a download that names none.
create index apk_builds_first on apk_builds ((coalesce(released_at, published_at)), build_id)
  where package is not null and not staged;

create table apk_signers (
  package text primary key,
  signers text[] not null, -- as in apk_builds; never empty
  pinned_at timestamptz not null default now(),
  build_id text not null references apk_builds
);
