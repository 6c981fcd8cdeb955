/*
 * handover.pml - who holds the listening sockets, and who accepts on them, while a process hands over to its successor.
 *
 *   Old   the process that runs: serves, gives its sockets, holds (accepts nobody) from READY on, leaves at SERVING
 *   New   its successor: takes the sockets, says READY, hears the list, accepts, says SERVING
 *
 * Either may die at any moment, and be silent for any time before each of its words (a stopped process is a slow one). What was said
 * before a death is still heard, then the end of the socket. In the end somebody accepts, if a process lives; not two; and nobody was
 * asked to move who had nowhere to go.
 *
 * Switches:
 *   DEATHS         how many of the two may die (default 1)
 *   NOSILENCE      nobody gives up waiting
 *   CLOSE_AT_READY the old one closes its duplicates at READY (the word SERVING would not be needed)
 *   ASK_AT_READY   the old one asks its peers to move at READY
 *   OLD_DECIDES    the old one takes a successor that is silent for dead: it accepts again, and leaves no more
 *   NEW_DECIDES    the successor takes an old one that is silent for dead: it hangs up, and serves without it
 *   NO_RESUME      the old one does not accept again when the successor has died before SERVING
 */
#ifndef DEATHS
#define DEATHS 1
#endif
mtype = { TAKE, SOCKETS, READY, LIST, SERVING, EOF };
chan up = [4] of { mtype };      /* New -> Old, the control socket */
chan down = [4] of { mtype };    /* Old -> New */
bool holds0=1, holds1, accepts0=1, accepts1, dead0, dead1, left0, said1, asked;
byte deaths;

inline put(q, m) { assert(len(q)<4); q!m }
inline ask() { assert(said1); asked=1 }   /* said1: the successor has accepted, and said so */
inline die0() { dead0=1; holds0=0; accepts0=0; put(down, EOF) }
inline die1() { dead1=1; holds1=0; accepts1=0; put(up, EOF) }

active proctype Old() {
  bool holding, decided;
  mtype m;
end:
  do
  :: atomic { !dead0 && !left0 && len(up)>0 -> up?m;
     if
     :: m==TAKE -> put(down, SOCKETS)
     :: m==READY -> holding=1; accepts0=0;
#ifdef CLOSE_AT_READY
        holds0=0;
#endif
#ifdef ASK_AT_READY
        ask();
#endif
        put(down, LIST)
     :: m==SERVING ->
        if
        :: decided -> skip                                   /* only with OLD_DECIDES */
        :: else -> holds0=0; accepts0=0; left0=1; if :: !asked -> ask() :: else fi
        fi
     :: m==EOF ->
#ifndef NO_RESUME
        if :: holding && holds0 -> accepts0=1 :: else fi;
#endif
        holding=0
     fi; m=0 }
#ifndef NOSILENCE
  :: atomic { !dead0 && !left0 && holding && holds0 && !accepts0 -> accepts0=1;  /* it is silent: accept meanwhile */
#ifdef OLD_DECIDES
     decided=1
#endif
     }
#endif
  :: atomic { !dead0 && deaths<DEATHS -> deaths++; die0(); break }
  od
}

inline serve() { accepts1=1; holds1=1; said1=1; put(up, SERVING) }
#ifdef NEW_DECIDES
#define GIVEUP accepts1=1; holds1=1; put(up, EOF)
#else
#define GIVEUP die1()
#endif
/* what may come instead of a word */
#define OTHERWISE_DIES :: atomic { !dead1 && deaths<DEATHS -> deaths++; die1(); goto gone }
#ifdef NOSILENCE
#define LATE
#else
#define LATE :: atomic { GIVEUP; goto gone }
#endif

active proctype New() {
  put(up, TAKE);
  if
  :: atomic { down?SOCKETS -> holds1=1 }
  :: atomic { down?EOF -> serve(); goto gone }               /* nobody runs: sockets of its own */
  LATE
  OTHERWISE_DIES
  fi;
  if
  :: put(up, READY)
  OTHERWISE_DIES
  fi;
  if
  :: atomic { down?LIST -> skip }
  :: atomic { down?EOF -> serve(); goto gone }               /* it owns what it holds */
  LATE
  OTHERWISE_DIES
  fi;
  if
  :: atomic { serve(); goto gone }
  OTHERWISE_DIES
  fi;
gone:
end:
  if
  :: atomic { !dead1 && deaths<DEATHS -> deaths++; die1() }
  fi
}

active proctype Judge() {
  atomic { timeout ->
    /* one that had taken over and then died is the loss of a process, not of a hand-over */
    assert(accepts0 || accepts1 || (dead0 && dead1) || (left0 && dead1 && said1));
    assert(!(accepts0 && accepts1));
    assert((!accepts0 || holds0) && (!accepts1 || holds1))
  }
}
