-- The tables. Theirs is the `perdure_` prefix, so that transactional activities can keep their own tables in the same file; the
-- views without prefix are for people (0002). Instants are microseconds since 1970, UTC.

-- One row a fact about the file: schema owner, database id, the runner's epoch.
CREATE TABLE perdure_meta (
  key TEXT PRIMARY KEY,
  value ANY
) STRICT, WITHOUT ROWID;

-- The names of event kinds, for the views. The codes are those of perdure/events.py.
CREATE TABLE perdure_kind (
  code INTEGER PRIMARY KEY,
  name TEXT NOT NULL
) STRICT;

-- A projection: one row a run of an execution. A `num` is never given twice: what is left of a deleted execution (a child, a
-- timer) must not find another one in its place, so deleting notes the highest in perdure_meta as `last_num`.
CREATE TABLE perdure_execution (
  num INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  run INTEGER NOT NULL,
  workflow TEXT NOT NULL,
  status TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  ended_at INTEGER,
  parent INTEGER,
  parent_seq INTEGER,
  deadline_at INTEGER,
  deployment TEXT,
  problem TEXT,
  UNIQUE (id, run)
) STRICT;

-- What a starting runner looks at, and what people look for. Leaves out the two large groups.
CREATE INDEX perdure_execution_status ON perdure_execution (status)
  WHERE status NOT IN ('completed', 'waiting', 'continued');
CREATE INDEX perdure_execution_parent ON perdure_execution (parent) WHERE parent IS NOT NULL;

-- The truth: append-only, seq without gaps. The key is one number, of which the low 24 bits are the seq: so what is appended
-- goes into one page and moves nothing in the others. A run has less than 2^24 events.
CREATE TABLE perdure_event (
  n INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL,
  at INTEGER NOT NULL,
  ref INTEGER,
  name TEXT,
  data ANY,      -- JSON text; a BLOB where a codec (encryption) is set
  blob BLOB,     -- digest into perdure_blob where the data is large
  execution INTEGER GENERATED ALWAYS AS (n >> 24) VIRTUAL,
  seq INTEGER GENERATED ALWAYS AS (n & 0xffffff) VIRTUAL
) STRICT;

-- Large payloads, by content. Body is zstd-compressed.
CREATE TABLE perdure_blob (
  digest BLOB PRIMARY KEY,
  refs INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;

-- A projection: what is due when. Purposes are those of perdure/store/rows.py.
CREATE TABLE perdure_timer (
  due_at INTEGER NOT NULL,
  execution INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  purpose INTEGER NOT NULL,
  PRIMARY KEY (due_at, execution, seq, purpose)
) STRICT, WITHOUT ROWID;

-- A projection: the readable state of each run.
CREATE TABLE perdure_state (
  execution INTEGER NOT NULL,
  key TEXT NOT NULL,
  data ANY NOT NULL,
  PRIMARY KEY (execution, key)
) STRICT, WITHOUT ROWID;

-- Requests of other processes to the runner, and inputs that paused or blocked executions could not take yet.
CREATE TABLE perdure_inbox (
  n INTEGER PRIMARY KEY AUTOINCREMENT,
  execution INTEGER NOT NULL,
  what TEXT NOT NULL,
  kind INTEGER,
  ref INTEGER,
  name TEXT,
  data ANY,
  at INTEGER NOT NULL
) STRICT;
CREATE INDEX perdure_inbox_execution ON perdure_inbox (execution);

-- The last sign of life of running attempts.
CREATE TABLE perdure_heartbeat (
  execution INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  at INTEGER NOT NULL,
  details ANY,
  PRIMARY KEY (execution, seq)
) STRICT, WITHOUT ROWID;
