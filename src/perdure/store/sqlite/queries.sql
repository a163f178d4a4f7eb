-- Every statement that the SQLite store runs, by name. A name with `_many` is run once per row of a batch.

-- name: epoch
SELECT value FROM perdure_meta WHERE key = 'runner_epoch';

-- name: put_meta
INSERT INTO perdure_meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: numbers
-- The highest numbers in use: of executions, of those that were deleted (null for none, -1 for what is no number), of those
-- that have events, of requests.
SELECT coalesce((SELECT max(num) FROM perdure_execution), 0),
  (SELECT CASE typeof(value) WHEN 'integer' THEN value ELSE -1 END FROM perdure_meta WHERE key = 'last_num'),
  coalesce((SELECT max(n) FROM perdure_event) >> 24, 0),
  max(coalesce((SELECT max(n) FROM perdure_inbox), 0),
    coalesce((SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence WHERE name = 'perdure_inbox'), 0));

-- name: meta
SELECT value FROM perdure_meta WHERE key = ?;

-- name: insert_execution_many
INSERT INTO perdure_execution
  (num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: next_num
-- A key that no execution has or had. Read and used in one transaction, so that nobody else takes it.
SELECT 1 + max(coalesce((SELECT max(num) FROM perdure_execution), 0),
  coalesce((SELECT value FROM perdure_meta WHERE key = 'last_num'), 0));

-- name: note_last_num
-- Run before executions are deleted, in the same transaction.
INSERT INTO perdure_meta (key, value) SELECT 'last_num', coalesce(max(num), 0) FROM perdure_execution WHERE true
ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value);

-- name: open_run
SELECT 1 FROM perdure_execution
WHERE id = ? AND status NOT IN ('completed', 'failed', 'cancelled', 'terminated', 'continued') LIMIT 1;

-- name: newest_run
SELECT num FROM perdure_execution WHERE id = ? ORDER BY run DESC LIMIT 1;

-- name: append_many
INSERT INTO perdure_event (n, kind, at, ref, name, data, blob) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: put_blob
INSERT INTO perdure_blob (digest, refs, body) VALUES (?, 1, ?) ON CONFLICT (digest) DO UPDATE SET refs = refs + 1;

-- name: blob
SELECT body FROM perdure_blob WHERE digest = ?;

-- name: set_status_many
UPDATE perdure_execution SET status = ?, ended_at = ?, problem = ?, deployment = ?, deadline_at = ? WHERE num = ?;

-- name: add_timer_many
INSERT OR IGNORE INTO perdure_timer (due_at, execution, seq, purpose) VALUES (?, ?, ?, ?);

-- name: remove_timer_many
DELETE FROM perdure_timer WHERE due_at = ? AND execution = ? AND seq = ? AND purpose = ?;

-- name: put_state_many
INSERT INTO perdure_state (execution, key, data) VALUES (?, ?, ?) ON CONFLICT (execution, key) DO UPDATE SET data = excluded.data;

-- name: remove_state_many
DELETE FROM perdure_state WHERE execution = ? AND key = ?;

-- name: put_inbox_many
INSERT INTO perdure_inbox (execution, what, kind, ref, name, data, at) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: move_inbox_many
UPDATE perdure_inbox SET execution = ? WHERE n = ?;

-- name: remove_inbox_many
DELETE FROM perdure_inbox WHERE n = ?;

-- name: put_heartbeat_many
INSERT INTO perdure_heartbeat (execution, seq, attempt, at, details) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (execution, seq) DO UPDATE SET attempt = excluded.attempt, at = excluded.at, details = excluded.details;

-- name: remove_heartbeat_many
DELETE FROM perdure_heartbeat WHERE execution = ? AND seq = ?;

-- name: execution_by_id
SELECT num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem
FROM perdure_execution WHERE id = ? ORDER BY run DESC LIMIT 1;

-- name: execution_by_num
SELECT num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem
FROM perdure_execution WHERE num = ?;

-- name: children
SELECT num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem
FROM perdure_execution WHERE parent = ? ORDER BY num;

-- name: unfinished
SELECT num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem
FROM perdure_execution
WHERE status NOT IN ('completed', 'waiting', 'continued') AND status IN ('pending', 'running', 'blocked') ORDER BY num;

-- name: pending
SELECT num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem
FROM perdure_execution WHERE status NOT IN ('completed', 'waiting', 'continued') AND status = 'pending' ORDER BY num LIMIT ?;

-- name: history
SELECT seq, kind, at, ref, name, data, blob FROM perdure_event WHERE n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff ORDER BY n;

-- name: last_event
SELECT seq, kind, at, ref, name, data, blob FROM perdure_event WHERE n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff ORDER BY n DESC LIMIT 1;

-- name: first_input
-- Of the first run of those that continued as this one, so far as they are kept.
SELECT e.data, e.blob FROM (
  SELECT f.num AS num FROM perdure_execution x JOIN perdure_execution f ON f.id = x.id AND f.run <= x.run
  WHERE x.num = ? AND f.run > coalesce((SELECT max(b.run) FROM perdure_execution b
    WHERE b.id = x.id AND b.run < x.run AND b.status <> 'continued'), 0)
  ORDER BY f.run LIMIT 1) x JOIN perdure_event e ON e.n BETWEEN x.num << 24 AND x.num << 24 | 2 AND e.kind = 2;

-- name: ending
-- The newest run with an id, and its last event.
SELECT x.num, x.id, x.run, x.workflow, x.status, x.created_at, x.ended_at, x.parent, x.parent_seq, x.deadline_at,
  x.deployment, x.problem, e.seq, e.kind, e.at, e.ref, e.name, e.data, e.blob
FROM perdure_execution x LEFT JOIN perdure_event e
  ON e.n = (SELECT max(n) FROM perdure_event WHERE n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff)
WHERE x.id = ? ORDER BY x.run DESC LIMIT 1;

-- name: state
SELECT key, data FROM perdure_state WHERE execution = ? ORDER BY key;

-- name: due_timers
SELECT due_at, execution, seq, purpose FROM perdure_timer WHERE due_at <= ? ORDER BY due_at, execution, seq LIMIT ?;

-- name: next_due
SELECT min(due_at) FROM perdure_timer;

-- name: need
-- What a file waits for that nobody runs: has it anything to run now, anything blocked, the newest request, the next timer.
SELECT EXISTS (SELECT 1 FROM perdure_execution WHERE status NOT IN ('completed', 'waiting', 'continued') AND status IN ('pending', 'running')),
  EXISTS (SELECT 1 FROM perdure_execution WHERE status NOT IN ('completed', 'waiting', 'continued') AND status = 'blocked'),
  (SELECT coalesce(max(n), 0) FROM perdure_inbox), (SELECT min(due_at) FROM perdure_timer);

-- name: timer
SELECT 1 FROM perdure_timer WHERE due_at = ? AND execution = ? AND seq = ? AND purpose = ?;

-- name: inbox
SELECT n, execution, what, kind, ref, name, data FROM perdure_inbox WHERE n > ? ORDER BY n LIMIT ?;

-- name: parked
SELECT n, execution, what, kind, ref, name, data FROM perdure_inbox WHERE execution = ? ORDER BY n;

-- name: heartbeat
SELECT attempt, details FROM perdure_heartbeat WHERE execution = ? AND seq = ?;

-- name: describe
-- The {where} is built from fixed conditions with parameters, never from user text.
SELECT x.id, x.run, x.workflow, x.status, x.created_at, x.ended_at, p.id,
  (SELECT max(e.n) & 0xffffff FROM perdure_event e WHERE e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff), x.deployment, x.problem, x.num
FROM perdure_execution x LEFT JOIN perdure_execution p ON p.num = x.parent
WHERE {where} ORDER BY {order} LIMIT ?;

-- name: execution_run
SELECT num FROM perdure_execution WHERE id = ? AND run = ?;

-- name: events
SELECT seq, kind, at, ref, name, data, blob FROM perdure_event
WHERE n > (?1 << 24) + max(?2, 0) AND n <= ?1 << 24 | 0xffffff ORDER BY n LIMIT ?3;

-- name: recorded_count
-- The {where} is built from fixed conditions with parameters, never from user text; here and below.
SELECT count(*) FROM perdure_execution x WHERE {where};

-- name: recorded_page
SELECT x.num FROM perdure_execution x WHERE {where} AND x.num < ? ORDER BY x.num DESC LIMIT ?;

-- name: newest_event
SELECT max(at) FROM perdure_event;

-- name: counts
SELECT status, count(*) FROM perdure_execution GROUP BY status;

-- name: expired
-- Children are kept while their parent is open: a replay of the parent does not need them, people do.
SELECT x.num, x.id FROM perdure_execution x LEFT JOIN perdure_execution p ON p.num = x.parent
WHERE x.ended_at < ? AND (x.ended_at, x.num) < (?, ?) AND x.status IN ({statuses})
  AND (p.num IS NULL OR p.status IN ('completed', 'failed', 'cancelled', 'terminated', 'continued'))
ORDER BY x.num LIMIT ?;

-- name: keep_boundary
-- The oldest of those to keep. Many may have ended in one transaction, at the same instant.
SELECT ended_at, num FROM perdure_execution WHERE ended_at IS NOT NULL AND status IN ({statuses})
ORDER BY ended_at DESC, num DESC LIMIT 1 OFFSET ?;

-- name: release_blobs
UPDATE perdure_blob SET refs = refs - (SELECT count(*) FROM perdure_event e WHERE e.n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff AND e.blob = perdure_blob.digest)
WHERE digest IN (SELECT blob FROM perdure_event WHERE n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff AND blob IS NOT NULL);

-- name: drop_blobs
DELETE FROM perdure_blob WHERE refs <= 0;

-- name: delete_events
DELETE FROM perdure_event WHERE n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff;

-- name: delete_state
DELETE FROM perdure_state WHERE execution = ?;

-- name: delete_inbox
DELETE FROM perdure_inbox WHERE execution = ?;

-- name: delete_heartbeats
DELETE FROM perdure_heartbeat WHERE execution = ?;

-- name: delete_execution
DELETE FROM perdure_execution WHERE num = ? AND status IN ('completed', 'failed', 'cancelled', 'terminated', 'continued');

-- name: gaps
SELECT x.id, x.run, count(e.n), max(e.seq) FROM perdure_execution x LEFT JOIN perdure_event e ON e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff
GROUP BY x.num HAVING count(e.n) = 0 OR count(e.n) <> max(e.seq) LIMIT 10;

-- name: orphans
SELECT count(*) FROM perdure_event WHERE execution NOT IN (SELECT num FROM perdure_execution);

-- name: open_without_end
-- Executions whose status does not say how their history ends: open, or by which closing event.
SELECT x.id, x.run, x.status, e.kind FROM perdure_execution x
JOIN perdure_event e ON e.n = (SELECT max(n) FROM perdure_event WHERE n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff)
WHERE CASE x.status WHEN 'completed' THEN 60 WHEN 'failed' THEN 61 WHEN 'cancelled' THEN 62 WHEN 'continued' THEN 63
    WHEN 'terminated' THEN 26 ELSE 0 END
  <> CASE WHEN e.kind IN (60, 61, 62, 63, 26) THEN e.kind ELSE 0 END LIMIT 10;

-- name: stuck_waiting
-- Waiting for nothing that can come by itself: no timer, no open child, no activity. A signal may still come.
SELECT count(*) FROM perdure_execution x WHERE x.status = 'waiting'
  AND x.num NOT IN (SELECT execution FROM perdure_timer)
  AND x.num NOT IN (SELECT parent FROM perdure_execution WHERE parent IS NOT NULL
    AND status NOT IN ('completed', 'failed', 'cancelled', 'terminated', 'continued'));

-- name: backlog
-- What a runner should have taken by ?1. What paused and blocked executions hold back is not counted.
WITH request AS MATERIALIZED (
  SELECT i.at AS at FROM perdure_inbox i JOIN perdure_execution x ON x.num = i.execution WHERE x.status NOT IN ('paused', 'blocked')
), due AS MATERIALIZED (
  SELECT t.due_at AS at FROM perdure_timer t JOIN perdure_execution x ON x.num = t.execution
  WHERE t.due_at <= ?1 AND x.status IN ('pending', 'running', 'waiting')
), pending AS MATERIALIZED (
  SELECT created_at AS at FROM perdure_execution
  WHERE status NOT IN ('completed', 'waiting', 'continued') AND status = 'pending'
)
SELECT (SELECT count(*) FROM pending),
  (SELECT count(*) FROM perdure_execution WHERE status NOT IN ('completed', 'waiting', 'continued') AND status = 'running'),
  (SELECT count(*) FROM request), (SELECT count(*) FROM due),
  (SELECT min(at) FROM (SELECT at FROM pending UNION ALL SELECT at FROM request UNION ALL SELECT at FROM due));

-- name: backoffs
SELECT x.id, x.run, t.seq, coalesce(e.name, ''), t.due_at FROM perdure_timer t
JOIN perdure_execution x ON x.num = t.execution
LEFT JOIN perdure_event e ON e.n = t.execution << 24 | t.seq
WHERE t.due_at > ? AND t.purpose = 1 ORDER BY t.due_at DESC LIMIT 10;

-- name: all_executions
SELECT num, id, run FROM perdure_execution ORDER BY num;

-- name: timers_by_execution
SELECT due_at, execution, seq, purpose FROM perdure_timer ORDER BY execution, due_at, seq, purpose;

-- name: heartbeats
SELECT seq, attempt FROM perdure_heartbeat WHERE execution = ? ORDER BY seq;

-- name: orphan_rows
-- A timer and a request may be left of an execution that was deleted; the runner drops them.
SELECT 'event', count(*) FROM perdure_event WHERE execution NOT IN (SELECT num FROM perdure_execution)
UNION ALL SELECT 'state', count(*) FROM perdure_state WHERE execution NOT IN (SELECT num FROM perdure_execution)
UNION ALL SELECT 'heartbeat', count(*) FROM perdure_heartbeat WHERE execution NOT IN (SELECT num FROM perdure_execution);

-- name: miscounted_blobs
WITH used AS (SELECT blob AS digest, count(*) AS n FROM perdure_event WHERE blob IS NOT NULL GROUP BY blob)
SELECT hex(coalesce(b.digest, u.digest)), coalesce(b.refs, 0), coalesce(u.n, 0)
FROM perdure_blob b FULL JOIN used u ON u.digest = b.digest WHERE coalesce(b.refs, 0) <> coalesce(u.n, 0) LIMIT 20;

-- name: misplaced_runs
SELECT id FROM perdure_execution GROUP BY id
HAVING max(CASE WHEN status IN ('completed', 'failed', 'cancelled', 'terminated', 'continued') THEN 0 ELSE run END)
    NOT IN (0, max(run))
  OR sum(status NOT IN ('completed', 'failed', 'cancelled', 'terminated', 'continued')) > 1
LIMIT 20;

-- name: unfollowed
-- Nothing was ever deleted when there are as many executions as keys were given; deleting notes the highest key.
SELECT x.id, x.run FROM perdure_execution x WHERE x.status = 'continued'
  AND NOT EXISTS (SELECT 1 FROM perdure_execution n WHERE n.id = x.id AND n.run = x.run + 1)
  AND (SELECT count(*) FROM perdure_execution) = max((SELECT max(num) FROM perdure_execution),
    coalesce((SELECT value FROM perdure_meta WHERE key = 'last_num'), 0))
LIMIT 20;

-- name: user_tables
-- All that have rows of their own: not SQLite's, not Litestream's, no virtual ones (their content is in others).
SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_litestream_*'
  AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name;

-- name: columns
SELECT name, pk FROM pragma_table_info(?);

-- name: attach_before
ATTACH ? AS before;

-- name: lost_events
-- Event by event: one that is there must be as it was. Those of deleted executions are another matter.
SELECT count(*) FROM before.perdure_event b
LEFT JOIN main.perdure_event a ON a.n = b.n
WHERE (a.n IS NULL OR (a.kind, a.at, a.ref, a.name, a.data, a.blob) IS NOT (b.kind, b.at, b.ref, b.name, b.data, b.blob))
  AND b.execution IN (SELECT num FROM main.perdure_execution);

-- name: lost_executions
SELECT count(*) FROM before.perdure_execution WHERE num NOT IN (SELECT num FROM main.perdure_execution);
