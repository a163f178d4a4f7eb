-- Views for people, readable with plain sqlite3. Documented column by column in docs/reference/schema.md.
-- Large and encrypted payloads show as '<N bytes>'; `perdure history` decodes them.

CREATE VIEW executions AS
SELECT x.id, x.run, x.workflow, x.status,
  strftime('%Y-%m-%dT%H:%M:%fZ', x.created_at / 1e6, 'unixepoch') AS created_at,
  strftime('%Y-%m-%dT%H:%M:%fZ', x.ended_at / 1e6, 'unixepoch') AS ended_at,
  p.id AS parent_id,
  (SELECT max(e.n) & 0xffffff FROM perdure_event e WHERE e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff) AS events,
  (SELECT CASE WHEN typeof(e.data) = 'text' THEN e.data ELSE '<large or encrypted>' END
     FROM perdure_event e WHERE e.n BETWEEN x.num << 24 AND x.num << 24 | 2 AND e.kind = 2) AS input,
  (SELECT CASE WHEN typeof(e.data) = 'text' THEN e.data ELSE '<large or encrypted>' END
     FROM perdure_event e WHERE e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff AND e.kind = 60 ORDER BY e.n DESC LIMIT 1) AS result,
  CASE WHEN x.status = 'failed' THEN
    (SELECT CASE WHEN typeof(e.data) = 'text' THEN e.data ->> 'type' || ': ' || (e.data ->> 'message') ELSE '<large or encrypted>' END
       FROM perdure_event e WHERE e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff AND e.kind = 61 ORDER BY e.n DESC LIMIT 1)
  END AS error,
  x.problem, x.deployment
FROM perdure_execution x LEFT JOIN perdure_execution p ON p.num = x.parent;

CREATE VIEW history AS
SELECT x.id AS execution_id, x.run, e.seq, k.name AS kind,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1e6, 'unixepoch') AS at,
  e.ref, e.name,
  CASE WHEN e.blob IS NOT NULL OR typeof(e.data) = 'blob' THEN '<large or encrypted>' ELSE e.data END AS data
FROM perdure_execution x JOIN perdure_event e ON e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff LEFT JOIN perdure_kind k ON k.code = e.kind;

-- Scheduled and not ended, of open executions. The attempt number is that of the attempt running or waited for.
CREATE VIEW pending_activities AS
WITH open_execution AS MATERIALIZED (
  SELECT num, id, run FROM perdure_execution WHERE status IN ('running', 'waiting', 'paused', 'blocked')
), ended AS MATERIALIZED (
  SELECT e.execution, e.ref FROM open_execution o JOIN perdure_event e ON e.n BETWEEN o.num << 24 AND o.num << 24 | 0xffffff WHERE e.kind IN (3, 4, 41)
), failed AS MATERIALIZED (
  SELECT e.execution, e.ref, count(*) AS attempts, max(e.seq) AS seq
  FROM open_execution o JOIN perdure_event e ON e.n BETWEEN o.num << 24 AND o.num << 24 | 0xffffff WHERE +e.kind = 20 GROUP BY 1, 2
)
SELECT o.id AS execution_id, o.run, s.seq, s.name AS activity,
  CASE WHEN typeof(s.data) = 'text' THEN s.data ELSE '<large or encrypted>' END AS arguments,
  strftime('%Y-%m-%dT%H:%M:%fZ', s.at / 1e6, 'unixepoch') AS scheduled_at,
  coalesce(f.attempts, 0) + 1 AS attempt,
  CASE WHEN typeof(l.data) = 'text' THEN l.data ->> '$.error.message' END AS last_error,
  CASE WHEN typeof(l.data) = 'text'
    THEN strftime('%Y-%m-%dT%H:%M:%fZ', (l.data ->> '$.retry_at') / 1e6, 'unixepoch') END AS next_attempt_at
FROM open_execution o
JOIN perdure_event s ON s.n BETWEEN o.num << 24 AND o.num << 24 | 0xffffff AND +s.kind = 40
LEFT JOIN failed f ON f.execution = s.execution AND f.ref = s.seq
LEFT JOIN perdure_event l ON l.n = f.execution << 24 | f.seq
WHERE (s.execution, s.seq) NOT IN (SELECT execution, ref FROM ended);

CREATE VIEW timers AS
SELECT x.id AS execution_id, x.run, t.seq,
  strftime('%Y-%m-%dT%H:%M:%fZ', t.due_at / 1e6, 'unixepoch') AS due_at,
  CASE t.purpose WHEN 0 THEN 'sleep' WHEN 1 THEN 'retry' WHEN 2 THEN 'deadline' ELSE 'activity timeout' END AS purpose
FROM perdure_timer t JOIN perdure_execution x ON x.num = t.execution
WHERE x.status IN ('pending', 'running', 'waiting', 'paused', 'blocked');

-- What went wrong, newest last: failed attempts, failed activities, failed executions, and executions set aside.
CREATE VIEW failures AS
SELECT x.id AS execution_id, x.run, x.workflow, e.seq,
  CASE e.kind WHEN 20 THEN 'attempt' WHEN 4 THEN 'activity' WHEN 7 THEN 'child' ELSE 'execution' END AS what,
  strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1e6, 'unixepoch') AS at,
  (SELECT s.name FROM perdure_event s WHERE s.n = e.execution << 24 | e.ref) AS name,
  CASE WHEN typeof(e.data) = 'text' THEN coalesce(e.data ->> '$.error.type', e.data ->> '$.type') END AS type,
  CASE WHEN typeof(e.data) = 'text' THEN coalesce(e.data ->> '$.error.message', e.data ->> '$.message') END AS message
FROM perdure_execution x JOIN perdure_event e ON e.n BETWEEN x.num << 24 AND x.num << 24 | 0xffffff AND e.kind IN (4, 7, 20, 61)
  -- an attempt that a crash or a shutdown ended is no failure of the activity
  AND NOT (e.kind = 20 AND typeof(e.data) = 'text' AND (e.data ->> '$.reason') <> 'error')
UNION ALL
SELECT x.id, x.run, x.workflow, NULL, 'blocked', NULL, NULL, NULL, x.problem
FROM perdure_execution x WHERE x.status = 'blocked';
