/* The protocol of the runner, for the model checker spin: lock, epoch, commit, effects, crash, takeover.

Two worker processes share one file. One execution goes through

    ABSENT -> PENDING -> SCHEDULED -> DONE_A -> DONE_T -> ENDED

it is created, its ordinary activity is scheduled and done, then its transactional activity is, and it ends once it also
has a signal, which may come at any time. A client creates it, through the file or through the worker in whose process it
lives, and sends the signal through the inbox. Between any two steps a process may be killed or told to close, a commit
may fail, the power may fail, the lock file may be deleted, each as often as its budget below says; a process that died
starts again. spin tries every order of all steps of all processes.

Numbers like (3) are those of the invariants in docs/design.md. Each BREAK_... leaves one rule out; spin must find what
goes wrong then. test_model.py has the settings that are checked.
*/

#ifndef KILLS      /* of one worker */
#define KILLS 0
#endif
#ifndef FAULTS     /* commits that fail: disk full, disk error */
#define FAULTS 0
#endif
#ifndef CLOSES     /* workers that are told to close */
#define CLOSES 0
#endif
#ifndef CUTS       /* power cuts */
#define CUTS 0
#endif
#ifndef THEFTS     /* deletions of the lock file under the runner */
#define THEFTS 0
#endif

#define WORKERS 2
#define NOBODY WORKERS
#define MOST_ATTEMPTS 10

/* What the history of the execution says. */
#define ABSENT 0
#define PENDING 1
#define SCHEDULED 2
#define DONE_A 3
#define DONE_T 4
#define ENDED 5

/* The attempt in a process's memory. */
#define NONE 0
#define READY 1     /* its start is to be in the file before it runs: from the second attempt on */
#define RUNNING 2
#define TOOK 3      /* it took effect; the runner is to hear of it */
#define STOPPED 4   /* it was cancelled since its process closes; the runner is to hear of it */

/* What came of a commit. */
#define WRITTEN 0
#define FAILED 1
#define STALE 2

/* --- the file ------------------------------------------------------------------------------------------------------ */

typedef File {
  byte log;
  byte number;     /* of the activity's current attempt; each note of one that ended badly makes it 1 more */
  bool proof;      /* the file says that this attempt was started */
  bool clean;      /* the attempt before it was stopped in order */
  bool inbox;      /* the signal waits */
  byte signals;    /* signals in the history */
  byte rows        /* what the transactional activity wrote */
};
File file;         /* as all processes see it; at FULL it is also what a power cut leaves */
#ifdef NORMAL
File disk;         /* what a power cut leaves: the commits up to the last sync, at any commit before now */
#endif
byte lock = NOBODY;

inline copy(from, to) {
  to.log = from.log; to.number = from.number; to.proof = from.proof; to.clean = from.clean; to.inbox = from.inbox;
  to.signals = from.signals; to.rows = from.rows
}

/* --- processes ----------------------------------------------------------------------------------------------------- */

bool killed[WORKERS], client_killed;
bool leads[WORKERS];
bool replaced[WORKERS];   /* its epoch is not the file's any more: all that matters of the number */
byte attempt[WORKERS];
byte attempt_number[WORKERS];
bool asked[WORKERS];      /* a client in this process waits for the answer to its start */
byte kills = KILLS, faults = FAULTS, closes = CLOSES, cuts = CUTS, thefts = THEFTS;

#ifdef BREAK_NO_LOOK
bool rung[WORKERS];
#define SEES(me) rung[me]
#define SEEN(me) rung[me] = false
#else
#define SEES(me) true     /* rung or not: everyone looks once a second */
#define SEEN(me) skip
#endif

/* --- what happened, as nobody in there can know --------------------------------------------------------------------- */

bool told_started, told_signal, told_result;
bool ran[MOST_ATTEMPTS];
bool effect;
byte may_run = 1;         /* one attempt, and one more for each that was cut short after it began */
bool stolen;

/* The attempt of a process is gone, with its outcome. */
inline lose_attempt(me) {
  if
  :: attempt[me] == RUNNING || attempt[me] == TOOK -> may_run++
  :: else
  fi;
  attempt[me] = NONE; attempt_number[me] = 0; replaced[me] = false
}

inline give_lock_up(me) {
  if
  :: lock == me -> lock = NOBODY
  :: else
  fi
}

/* --- a worker ------------------------------------------------------------------------------------------------------ */

/* Memory is what the log says, and nothing else (5, 7). */
inline load() {
  log = file.log; number = file.number; signals = file.signals; was = 0; was_number = 0; outcome = 0;
  takes = false; writes = false; proves = false; notes_stop = false; starts = false; replies = false
}

inline forget() {
  log = 0; number = 0; signals = 0; was = 0; was_number = 0; outcome = 0; draining = false;
  takes = false; writes = false; proves = false; notes_stop = false; starts = false; replies = false
}

/* One transaction, whole or not at all (2, 6, 7). */
inline commit() {
  atomic {
    if
#ifdef BREAK_NO_EPOCH
    :: false ->
#else
    :: replaced[me] ->
#endif
      outcome = STALE
    :: else ->
      if
      :: faults > 0 -> faults--; outcome = FAILED
      :: outcome = WRITTEN;
         assert(file.log == was && file.number == was_number);     /* (1) nothing twice, no gap */
         file.clean = (number == was_number -> file.clean : notes_stop);
         file.proof = (number == was_number -> file.proof || proves : false);
         file.log = log; file.number = number; file.signals = signals;
         if
         :: takes -> assert(file.inbox); file.inbox = false
         :: else
         fi;
         if
         :: writes -> file.rows++
         :: else
         fi
      fi
    fi
  }
}

/* The code's answer to its inputs so far. */
inline answer() {
  if
  :: log == DONE_T && signals > 0 -> log = ENDED
  :: else
  fi
}

#ifdef BREAK_CLEAN_UNPROVED
#define NEEDS_PROOF (number > 1 && !file.clean)
#define INTERRUPTED (NEEDS_PROOF -> file.proof : !file.clean)
#else
#define NEEDS_PROOF (number > 1)
#define INTERRUPTED (NEEDS_PROOF -> file.proof : true)
#endif

/* Take one input that has come, if there is one. What it leads to is in memory only. */
/* What the batch builds on. */
inline based() { was = log; was_number = number }

inline handle(me) {
  if
  :: log == ABSENT && file.log == ABSENT && asked[me] && !draining ->
     based(); log = SCHEDULED; number = 1; starts = true; replies = true
  :: log <= PENDING && file.log == PENDING && SEES(me) ->
     SEEN(me); based(); was = PENDING; log = SCHEDULED; number = 1; starts = true
  :: log == SCHEDULED && attempt[me] == NONE && !draining ->
     /* Taken over. Did it run in the process that is gone? Then the next one gets a number of its own. */
     based(); starts = true;
     if
#ifndef BREAK_SAME_NUMBER
     :: INTERRUPTED -> number++
#endif
     :: else
     fi
  :: log == SCHEDULED && attempt[me] == READY -> based(); proves = true
  :: log == SCHEDULED && attempt[me] == TOOK -> based(); log = DONE_A
  :: log == SCHEDULED && attempt[me] == STOPPED -> based(); number++; notes_stop = true
  :: log == DONE_A -> based(); log = DONE_T; writes = true; answer()
  :: log >= SCHEDULED && log < ENDED && file.inbox && SEES(me) -> SEEN(me); based(); takes = true; signals++; answer()
  fi
}

/* Let out what waited for the commit, and nothing before it (2, 3). Each is a step of its own. */
inline let_out(me) {
  if
  :: atomic { starts -> starts = false; attempt_number[me] = number; attempt[me] = (NEEDS_PROOF -> READY : RUNNING) }
  :: atomic { proves -> proves = false; attempt[me] = RUNNING }
  :: atomic { (was == SCHEDULED && log == DONE_A) || notes_stop -> attempt[me] = NONE; attempt_number[me] = 0 }
  :: else
  fi;
  if
  :: atomic { replies -> told_started = true; asked[me] = false; load() }
  :: atomic { log == ENDED && was < ENDED -> told_result = true; load() }
  :: atomic { !replies && !(log == ENDED && was < ENDED) -> load() }
  fi
}

/* What is in memory only nobody can see: handling and commit are one step. Where a rule is broken they are several. */
#if defined(BREAK_EFFECT_FIRST)
#define STEP
inline TOO_EARLY(me) {
  if
  :: starts -> attempt_number[me] = number; attempt[me] = RUNNING
  :: else
  fi
}
#elif defined(BREAK_REPLY_FIRST)
#define STEP
inline TOO_EARLY(me) {
  if
  :: replies -> told_started = true
  :: else
  fi
}
#elif defined(BREAK_INBOX_APART)
#define STEP
inline TOO_EARLY(me) {
  if
  :: takes -> file.inbox = false; takes = false
  :: else
  fi
}
#elif defined(BREAK_ROW_APART)
#define STEP
inline TOO_EARLY(me) {
  if
  :: writes -> file.rows++; writes = false
  :: else
  fi
}
#else
#define STEP atomic
#define TOO_EARLY(me) skip
#endif

proctype Worker(byte me) {
  byte log, number, signals, was, was_number, outcome;
  bool takes, writes, proves, notes_stop, starts, replies, draining;

standing_by:
  {
    atomic { lock == NOBODY && !killed[me] -> lock = me }
    atomic {
      replaced[1 - me] = leads[1 - me]; replaced[me] = false; leads[me] = true; load();
#ifdef BREAK_NO_LOOK
      rung[me] = true
#endif
    }
    do
    :: STEP { handle(me); TOO_EARLY(me); commit() }
       if
       :: outcome == WRITTEN -> let_out(me)
       :: atomic {
            outcome == FAILED ->
            /* What ran ahead is dropped. What happened in the world did happen: the attempt is kept (7). */
#ifdef BREAK_FORGET_OUTCOME
            attempt[me] = NONE; attempt_number[me] = 0;
#endif
            asked[me] = false; load();
            if
            :: draining -> break
            :: else
            fi
          }
       :: outcome == STALE -> break
       fi
    :: atomic { closes > 0 && !draining -> closes--; draining = true }
    :: atomic { draining && (attempt[me] == RUNNING || attempt[me] == READY) ->     /* its time is over */
         if
         :: attempt[me] == RUNNING -> may_run++
         :: else
         fi;
         attempt[me] = STOPPED
       }
#ifdef BREAK_LEAVE_EARLY
    :: draining -> break
#else
    :: draining && attempt[me] == NONE -> break
#endif
    od;

    /* Out of office, in order: first the attempts end, then the lock goes. */
#ifdef BREAK_LEAVE_EARLY
    give_lock_up(me);
#endif
    atomic { lose_attempt(me); leads[me] = false; asked[me] = false };
    atomic { give_lock_up(me); forget() };
    goto standing_by
  } unless {
    atomic { killed[me] -> killed[me] = false; forget() };
    goto standing_by
  }
}

/* What the attempt of a process does in the world, at any time after it was started. */
proctype World(byte me) {
end:
  do
  :: atomic {
       attempt[me] == RUNNING ->
       assert(file.log >= SCHEDULED);                     /* (3) */
       assert(stolen || file.log == SCHEDULED);           /* what is recorded as done is not done again */
#ifndef NORMAL
       assert(!ran[attempt_number[me]]);                  /* no number twice */
       assert(may_run > 0);                               /* again only if the one before was cut short */
       ran[attempt_number[me]] = true;
       may_run--;
#endif
       effect = true;
       attempt[me] = TOOK
     }
  od
}

/* --- those around -------------------------------------------------------------------------------------------------- */

inline ring() {
#ifdef BREAK_NO_LOOK
  if
  :: rung[0] = leads[0]; rung[1] = leads[1]
  :: skip                                                 /* the ring is lost */
  fi
#else
  skip
#endif
}

/* Creates the execution, in one way or the other, and sends the signal; begins anew when the power went. */
proctype Client() {
again:
  {
end:
    do
    :: atomic { file.log == ABSENT && !asked[0] && !asked[1] -> file.log = PENDING }; told_started = true; ring()
    :: atomic { file.log == ABSENT && !asked[0] && !asked[1] && leads[0] -> asked[0] = true }
    :: atomic { file.log == ABSENT && !asked[0] && !asked[1] && leads[1] -> asked[1] = true }
    :: atomic { file.log > ABSENT && file.log < ENDED && !file.inbox && !file.signals -> file.inbox = true };
       told_signal = true; ring()
    :: atomic { file.log == ENDED && !told_result -> told_result = true }
    od
  } unless {
    atomic { client_killed -> client_killed = false };
    goto again
  }
}

inline kill(w) {
  killed[w] = true; lose_attempt(w); leads[w] = false; asked[w] = false; give_lock_up(w)
}

proctype Fate() {
end:
  do
  :: atomic { kills > 0 && (leads[0] || lock == 0) -> kills--; kill(0) }
  :: atomic { kills > 0 && (leads[1] || lock == 1) -> kills--; kill(1) }
  :: atomic { thefts > 0 && lock != NOBODY -> thefts--; lock = NOBODY; stolen = true; may_run++ }
  :: atomic {
       cuts > 0 -> cuts--;
       kill(0); kill(1); client_killed = true;
#ifdef NORMAL
       copy(disk, file);
#ifndef BREAK_NO_SYNC
       told_started = false; told_signal = false; told_result = false     /* the newest commits may be lost */
#endif
#endif
     }
#ifdef NORMAL
  :: atomic { copy(file, disk) }
#endif
  :: break
  od
}

/* What must hold between any two steps. */
#define SOUND ( \
  (!told_started || file.log >= PENDING) \
  && (!told_signal || file.inbox + file.signals == 1) \
  && (!told_result || file.log == ENDED) \
  && file.inbox + file.signals <= 1 \
  && (file.log != ENDED || file.signals == 1) \
  && file.rows == (file.log >= DONE_T) \
  && (file.log < DONE_A || effect))

proctype Watch() {
end:
  atomic { !SOUND -> assert(false) }
}

init {
  atomic {
    run Watch(); run Fate(); run Client(); run World(0); run World(1); run Worker(0); run Worker(1)
  }
}

/* Once fate has had its share, it comes to its end, and whoever asked hears of it. */
ltl ends { <> told_result }
