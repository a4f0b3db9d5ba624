/*
 * One idempotency key of Rocket Rides, and everything that can change it: client API workers, a completer, Stripe, the
 * passing of time, the reaper, and an operator. Spin tries every order in which they can act, with every fault at every
 * place, and checks the invariants in every state. README.md explains this to somebody who has never used spin. The
 * numbers of the invariants are those of internal/phases/doc.go.
 *
 * One key is enough: every statement that changes a key names it, so what holds for one key holds for all. The metadata
 * of a payment names the operation that it belongs to, which is unique to the key, so here only this key's payments are
 * listed.
 *
 * Names of the parts in the engine: `write` is one transaction as the server executes it (statements.go), `doubt` is
 * what a worker does after a COMMIT that was not answered (commit.go), `idle` is the claim (claim.go, run.go,
 * completer.go), `calling`, `sending` and `looking` are the foreign call (foreign.go), `judge` is what its result leads
 * to (the table of Stripe's answers, and fail.go).
 *
 * Switches, given to spin with -D:
 *   WRONG=<design>  builds in one mistake, which spin must find
 *   ONLY=<number>   checks this invariant alone, such as ONLY=I5
 *   REACH=<event>   claims that this event never happens, which spin must refute
 *   TWO_MORTALS     adds a second worker that may die; the tombstone then stays for ever, to keep the search feasible
 *   OPERATOR        adds an operator
 *   CALM            lets the faults stop at some moment, for I16
 */

#ifndef WRONG
#define WRONG none
#endif
#ifndef ONLY
#define ONLY none
#endif
#ifndef REACH
#define REACH none
#endif

mtype = { none };

mtype = { I1, I2, I3, I4, I5, I6, I7, I8, I9, I22 };

mtype = { unfenced, no_token, no_point, error_final, new_key, reap_unfinished, no_unique_ride, no_window, endless_pause,
	send_first, nothing_means_send, no_cancel, moving_window, hasty_operator, resolve_finished, early_answer, no_completer,
	never_park, call_unseen, call_forgotten, claim_uncovered };

mtype = { fenced, takeover, late_commit, adopted, rolled, forgotten, resolved_charged, resolved_not, resolved_soon,
	second_life, unsent };

#define wrong(design) (WRONG == design)
#define REACHED(event) \
	if \
	:: REACH != event \
	:: else -> printf("%e is reached\n", event); assert(false) \
	fi
#define REQUIRE(name, holds) \
	if \
	:: ONLY != none && ONLY != name || (holds) \
	:: else -> printf("%e is broken\n", name); assert(false) \
	fi

/*
 * The database: the key's row and what the phases write besides it. Parameters, hashes, realm, versions, attempts and
 * back-off are left out: they decide whether and when a worker acts, and here a worker may act at any time.
 */

mtype = { absent, open, parked, finished, tombstone };      /* the row's state */
mtype = { started, ride_created, charge_created, done };    /* the recovery point */
mtype = { charged, declined, not_charged };                 /* the stored answer: 201, 402, 402 by an operator */

/*
 * Who holds the row. There is no variable for the end of the lease: it is only a right to steal, so here anybody may
 * steal at any time. In the engine a token is new for every claim and never comes back. Here a worker's number is its
 * token, and the token is renamed to ORPHAN as soon as the worker has let go (see leave), so the number can be used again.
 */
#define NOBODY 0
#define ORPHAN 8

typedef Row {
	mtype state = absent;
	mtype point = started;
	mtype answer = none;
	byte token = NOBODY;
	bit sent;   /* first_sent_at is set, and the form is frozen */
	bit find;   /* find_reason is set: from now on look, never send */
	bit ref;    /* foreign_ref is set: the id of a payment that is being processed */
	bit called; /* calling_until lies ahead; only with an operator, because nobody else looks at it */
}
Row row;

/* others[w] is what row.called was when worker w claimed the key, which it puts back when its own call is over. */
bit others[4];

#ifdef OPERATOR
#define covers(k) (k == insert_fused || k == create_ride || k == arm || k == steal && row.point == ride_created && !wrong(claim_uncovered))
#define covered (row.called || wrong(claim_uncovered))
#else
#define covers(k) false
#define covered true
#endif

byte rides;     /* rows in rides for this key; a unique constraint keeps it at one */
byte receipts;  /* receipts staged */
bit  paid;      /* the ride carries the charge */

/* view[w] is set while the row's epoch and point are as worker w last read them, so that its compare-and-swap matches. */
bit view[4];

/*
 * Transactions, in this order: claims, which compare what was read; a worker's transactions behind the fence; an
 * operator's transactions, which compare the epoch.
 */
mtype = { nothing,
	insert_fused, insert_stepwise, steal,
	create_ride, arm, note, record_charge, record_all, finish, decline, release, release_unsent, wait, park, bury,
	operator_park, operator_retry, operator_charged, operator_not_charged };

#define is_insert(k)   (k == insert_fused || k == insert_stepwise)
#define is_operator(k) (k == operator_park || k == operator_retry || k == operator_charged || k == operator_not_charged)
#define compares(k)    (k == steal || is_operator(k))
#define is_fenced(k)   (k != nothing && !is_insert(k) && !compares(k))

/*
 * A transaction that was sent, and that the server has not executed yet although its sender has stopped waiting. There is
 * one at a time. When the row has changed so that the transaction can only fail, it is forgotten at once. That saves
 * states and changes nothing, because tokens and epochs never come back.
 */
typedef Late {
	mtype kind = nothing;
	byte token;
	mtype from = started;
}
Late late;

/*
 * What Stripe knows of this key's charge. `saved` is its idempotency cache for our one foreign key. It executes a request
 * once, saves the answer, and may forget it 24 hours later. A 500 is saved too, and proves nothing: the charge may be
 * made, not made, or made later (`roll`: Stripe rolls the 500 forward). `flying` is a request that is on the wire although
 * its sender has given up.
 */
mtype = { unsaved, saved_ok, saved_500 };
mtype = { missing, processing, succeeded, failed, canceled };

typedef Stripe {
	mtype saved = unsaved;
	mtype intent = missing;
	byte intents;
	byte charges;
	bit roll;
	bit old;    /* the saved answer is older than first_sent_at; never set in the correct design */
}
Stripe stripe;
bit flying;
byte pausing;   /* how many workers have looked at the clock and not sent yet */
byte about;     /* how many workers have committed that they are about to send, and have not ended that call */

/*
 * Time since first_sent_at: sending is allowed; sending is not allowed, but Stripe still knows the key; Stripe may have
 * forgotten it. Hours are left out, because only these limits matter. The one assumption about them: nobody pauses for
 * more than four hours between looking at the clock and writing to the socket, and no request is on the wire that long.
 */
mtype = { in_window, after_20h, after_24h };
mtype age = in_window;

mtype told = none;  /* the answer that a client got, until the key is reaped */
bit calm;           /* faults have stopped */

/* Results of the inlines below. They are cleared at the end of each step, so that they add no states. */
mtype = { applied, refused, exists };
mtype = { r_charged, r_declined, r_processing, r_unknown, r_transient, r_lookup, r_suspect, r_nothing };
mtype outcome = none;
mtype reply = none;

/* What must hold after every transaction and everything that Stripe does. */
inline check() {
	REQUIRE(I1, stripe.charges <= 1);
	REQUIRE(I2, !(row.state == finished && row.answer == charged) && told != charged ||
		rides == 1 && receipts == 1 && paid && stripe.charges == 1);
	REQUIRE(I3, !(row.state == finished && row.answer != charged) && (told == none || told == charged) ||
		stripe.charges == 0);
	REQUIRE(I4, stripe.charges == 0 || row.state == open || row.state == parked || paid)
}

inline forget_late() { late.kind = nothing; late.token = 0; late.from = started }

inline forget_views() { view[1] = 0; view[2] = 0; view[3] = 0 }

/* The epoch rises: every view of the row is out of date, and the old token is gone for ever. */
inline hand(holder) {
	if
	:: compares(late.kind) -> forget_late()
	:: is_fenced(late.kind) && late.token == row.token && !wrong(no_token) && !wrong(unfenced) -> forget_late()
	:: else
	fi;
	row.token = holder;
	forget_views()
}

/*
 * A send is announced, or over. An announcement that was not there before changes what a claim compares. The token of a
 * worker that has died has no number, so what it would put back isn't known: the announcement stays.
 */
inline announce() {
	if
	:: !row.called -> row.called = 1; if :: compares(late.kind) -> forget_late() :: else fi; forget_views()
	:: else
	fi
}

inline call_over(whose) {
	if
	:: wrong(call_forgotten) -> row.called = 0
	:: !wrong(call_forgotten) && whose < ORPHAN -> row.called = row.called && others[whose]
	:: else
	fi
}

/* The recovery point moves. `whose` is the token of the transaction. */
inline move(whose, target) {
	REQUIRE(I7, row.token == whose);
	REQUIRE(I7, row.point == started && target == ride_created ||
		row.point == ride_created && (target == charge_created || target == done) ||
		row.point == charge_created && target == done ||
		(row.state == parked || wrong(resolve_finished)) && target == done);
	row.point = target; row.find = 0; row.ref = 0;
	if
	:: late.kind == steal -> forget_late()
	:: else
	fi;
	forget_views()
}

/* The key gets its answer. */
inline store(how) {
	REQUIRE(I8, row.state == open || row.state == parked);
	row.state = finished; row.answer = how; row.called = 0;
	hand(NOBODY);
	REACHED(how)
}

/* first_sent_at and the form become durable, once. Nothing may have been sent before. */
inline open_window() {
	if
	:: row.sent && !wrong(moving_window)
	:: else ->
		REQUIRE(I5, stripe.saved == unsaved && stripe.intents == 0 && !flying);
		row.sent = 1; age = in_window; stripe.old = (stripe.saved != unsaved)
	fi
}

inline insert_ride() {
	REQUIRE(I22, rides == 0 && stripe.intents == 0);
	rides++
}

/* The fence: each of its conditions can be taken away. */
#define fence(whose, origin) \
	(wrong(unfenced) || row.state == open && (wrong(no_token) || row.token == whose) && (wrong(no_point) || row.point == origin))
#define has_lived (rides > 0 && !wrong(no_unique_ride))

/*
 * One transaction, as the server executes it: all or nothing. Transactions on the key's row run one at a time, because
 * the first statement of each takes the row lock.
 */
inline write(what, whose, origin, fresh) {
	d_step {
		outcome = refused;
		if
		:: is_insert(what) && row.state == absent && what == insert_fused && has_lived -> outcome = exists; REACHED(second_life)
		:: is_insert(what) && row.state == absent && !(what == insert_fused && has_lived) ->
			outcome = applied;
			row.state = open; row.point = started; row.answer = none; hand(whose);
			if
			:: what == insert_fused -> insert_ride(); move(whose, ride_created); open_window()
			:: else
			fi
		:: what == create_ride && fence(whose, origin) && has_lived -> outcome = exists; REACHED(second_life)
		:: is_fenced(what) && fence(whose, origin) && !(what == create_ride && has_lived) ->
			outcome = applied;
			if
			:: what == create_ride -> insert_ride(); move(whose, ride_created); open_window()
			:: what == arm -> open_window()
			:: what == note -> row.find = 1
			:: what == record_charge -> paid = 1; move(whose, charge_created); call_over(whose)
			:: what == record_all -> paid = 1; receipts++; move(whose, done); store(charged)
			:: what == finish -> receipts++; move(whose, done); store(charged)
			:: what == decline -> move(whose, done); store(declined)
			:: what == release -> call_over(whose); hand(NOBODY)
			:: what == release_unsent -> row.sent = 0; call_over(whose); hand(NOBODY); REACHED(unsent)
			:: what == wait -> row.ref = 1; call_over(whose); hand(NOBODY)
			:: what == park -> row.state = parked; call_over(whose); hand(NOBODY); REACHED(parked)
			:: what == bury -> row.state = tombstone; row.point = done; row.called = 0; hand(NOBODY)
			fi
		:: what == steal && row.state == open && fresh ->
			outcome = applied;
			if
			:: row.token != NOBODY -> REACHED(takeover)
			:: else
			fi;
			hand(whose)
		:: what == operator_park && row.state == open && fresh -> outcome = applied; row.state = parked; hand(NOBODY)
		:: what == operator_retry && (row.state == open || row.state == parked) && fresh ->
			outcome = applied; row.state = open; hand(NOBODY)
		:: what == operator_charged && row.state == parked && fresh ->
			outcome = applied; REACHED(resolved_charged);
			paid = 1; receipts++; move(NOBODY, done); store(charged)
		:: what == operator_not_charged && (row.state == parked || wrong(resolve_finished) && row.state == finished) && fresh ->
			outcome = applied; REACHED(resolved_not);
			move(NOBODY, done); store(not_charged)
		:: else
		fi;
		if
		:: outcome == applied && covers(what) -> announce()
		:: else
		fi;
		if
		:: is_fenced(what) && outcome == refused -> REACHED(fenced)
		:: else
		fi;
		check()
	}
}

#define has_500 (stripe.saved == saved_500 && !wrong(new_key))

/* A request to charge arrives at Stripe, under the key's one foreign key. `reply` is the answer that its sender reads. */
inline arrive() {
	REQUIRE(I6, age != after_24h);
	if
	:: stripe.saved == saved_ok && stripe.intent == succeeded -> reply = r_charged
	:: stripe.saved == saved_ok && (stripe.intent == failed || stripe.intent == canceled) -> reply = r_declined
	:: stripe.saved == saved_ok && stripe.intent == processing -> reply = r_processing
	:: has_500 -> reply = r_lookup
	:: stripe.saved != saved_ok && !has_500 ->
		if
		:: stripe.saved = saved_ok; stripe.intent = succeeded; stripe.intents++; stripe.charges++; reply = r_charged;
			printf("Stripe charges the card\n")
		:: stripe.saved = saved_ok; stripe.intent = failed; stripe.intents++; reply = r_declined;
			printf("Stripe declines the card\n")
		:: stripe.saved = saved_ok; stripe.intent = processing; stripe.intents++; reply = r_processing;
			printf("Stripe processes the payment\n")
		:: !calm -> stripe.saved = saved_500; stripe.intent = succeeded; stripe.intents++; stripe.charges++; reply = r_unknown;
			printf("Stripe charges the card and answers 500\n")
		:: !calm -> stripe.saved = saved_500; stripe.intent = failed; stripe.intents++; stripe.roll = 1; reply = r_unknown;
			printf("Stripe leaves a failed payment and answers 500\n")
		:: !calm -> stripe.saved = saved_500; stripe.roll = 1; reply = r_unknown;
			printf("Stripe does nothing yet and answers 500\n")
		fi
	fi;
	check()
}

/* The client gets the stored answer, if there is one and a client is asking. */
inline tell() {
	if
	:: client && row.state == finished ->
		REQUIRE(I9, told == none || told == row.answer);
		told = row.answer;
		check()
	:: else
	fi
}

/*
 * The worker forgets the key. Its token becomes one that nobody has, also in a transaction that it left on the wire. A
 * steal on the wire is forgotten: it would be the same as if this worker stole the key at that time and died.
 */
inline leave() {
	if
	:: late.token == me && late.kind == steal -> forget_late()
	:: late.token == me && (is_insert(late.kind) || is_fenced(late.kind) && row.token == me) -> late.token = ORPHAN
	:: else
	fi;
	if
	:: row.token == me -> row.token = ORPHAN
	:: else
	fi;
	step = idle; kind = nothing; from = started; fused = 0; sent = 0; again = 0; mine = 0; find = 0; ref = 0; view[me] = 0; others[me] = 0
}

/* The row shows that the transaction at hand has committed. */
#define shown (row.state == open && row.token == me && (is_insert(kind) || kind == steal || row.point != from))

/* This worker has lost the key, and cannot get it back under this claim. */
#define lost ((row.state != open || row.token != me) && !(is_insert(kind) && row.state == absent) && !(kind == steal && view[me]))

/*
 * Whatever such a worker still wrote would be refused, so here it leaves at once, which saves states. In the engine it
 * answers from the row; here the client's next retry does that.
 */
#define hopeless (lost && !wrong(no_token) && !wrong(unfenced))

/* The next step, from the point at which the worker believes the row is. */
inline proceed() {
	if
	:: from == started && !wrong(send_first) -> kind = create_ride; step = transact
	:: from == started && wrong(send_first) -> sent = 1; kind = nothing; step = calling; about++
	:: from == ride_created -> kind = nothing; step = calling; if :: sent -> about++ :: else fi
	:: from == charge_created -> sent = 0; again = 0; mine = 0; find = 0; ref = 0; kind = finish; step = transact
	fi
}

/* The worker believes what the row shows, all of it. */
inline adopt() {
	if
	:: kind == steal -> fused = 0
	:: else
	fi;
	mine = (kind == insert_fused || kind == create_ride);
	from = row.point; sent = row.sent && covered; again = row.sent && !covered; find = row.find; ref = row.ref; view[me] = 0;
	proceed()
}

/* The server has answered the transaction. */
inline answered() {
	if
	:: outcome == refused -> if :: hopeless -> leave() :: else -> step = doubt fi
	:: outcome == exists && kind == create_ride -> kind = bury
	:: outcome == exists && kind != create_ride -> leave()
	:: outcome == applied && (kind == steal || kind == insert_stepwise) -> adopt()
	:: outcome == applied && (kind == insert_fused || kind == create_ride || kind == arm) ->
		from = ride_created; sent = 1; mine = !again; again = 0; proceed()
	:: outcome == applied && kind == note -> kind = nothing; step = looking
	:: outcome == applied && kind == record_charge -> from = charge_created; proceed()
	:: else -> tell(); leave()
	fi
}

/* The server has not answered. */
inline unanswered() {
	step = doubt;
	if
	:: wrong(early_answer) && client && (kind == finish || kind == record_all) -> told = charged; check()
	:: else
	fi
}

/* What a result of the foreign call leads to: the next transaction. */
inline judge() {
	step = transact;
	if
	:: hopeless -> leave()
	:: else ->
		if
		:: reply == r_charged -> if :: fused -> kind = record_all :: else -> kind = record_charge fi
		:: reply == r_declined -> kind = decline
		:: reply == r_processing -> kind = wait
		:: reply == r_unknown -> if :: wrong(error_final) -> kind = decline :: else -> kind = release fi
		:: reply == r_transient -> if :: mine -> kind = release_unsent :: else -> kind = release fi
		:: reply == r_lookup -> kind = note
		:: reply == r_suspect -> kind = park
		:: reply == r_nothing ->
			if
			:: wrong(nothing_means_send) -> kind = nothing; step = sending; pausing++; about++
			:: else -> if :: age == in_window || wrong(never_park) -> kind = release :: else -> kind = park fi
			fi
		fi
	fi;
	if
	:: kind == note
	:: else -> fused = 0
	fi;
	sent = 0; again = 0; mine = 0; find = 0; ref = 0
}

/* Steps of a worker. Each alternative of its loop is one step, between any two of which everybody else may act. */
mtype = { idle, transact, doubt, calling, sending, looking };

/*
 * A worker: an API process with a client's request (client is set), or a completer. A mortal worker may die at any step;
 * after that the same process stands for the next worker, which knows nothing. A deaf worker may lose any answer of the
 * database. Any worker may be overtaken at any step, may sleep for ever, and may lose any answer of Stripe's.
 */
proctype worker(byte me; bit mortal; bit deaf; bit client)
{
	mtype step = idle;
	mtype kind = nothing;   /* the transaction at hand */
	mtype from = started;   /* the recovery point that the worker believes in */
	bit fused;              /* phases without a call between them share a transaction: in the first attempt only */
	bit sent, find, ref;    /* of the row, as the worker knows it; cleared when they don't matter any more */
	bit again;              /* the row was armed by an earlier claim, and only calling_until must be set once more */
	bit mine;               /* this claim set first_sent_at, and has sent nothing yet */
#define dies (mortal && !calm)
#define unheard (deaf && !calm)
/* When faults have stopped, no more clients come, and the lease of a living worker does not end. */
#define may_insert (step == idle && client && !calm && row.state == absent)
#define may_steal (step == idle && row.state == open && row.token != me && \
	(!calm || !client && (row.token == NOBODY || row.token == ORPHAN)))
end:
	do
	:: atomic { step == idle && client && !calm && row.state == finished && told != row.answer ->
		tell(); printf("worker %d: tells %e\n", me, told) }
	/*
	 * A claim, or the next transaction. A claim is made in the same step that reads the row. It compares what was read, so
	 * a later one either finds the row unchanged, and is the same as a claim made then, or changes nothing.
	 */
	:: atomic { step == transact || may_insert || may_steal ->
		if
		:: step == transact
		:: may_insert -> kind = insert_fused; fused = 1
		:: may_insert -> kind = insert_stepwise
		:: may_steal -> kind = steal; view[me] = 1; others[me] = row.called
		fi;
		step = transact;
		if
		:: write(kind, me, from, view[me]);
			if
			:: printf("worker %d: %e: %e\n", me, kind, outcome); answered()
			:: unheard -> printf("worker %d: %e: %e, but the answer is lost\n", me, kind, outcome);
				unanswered()
			fi
		:: unheard -> printf("worker %d: %e: never arrives, no answer\n", me, kind);
			unanswered()
		:: (dies || unheard) && late.kind == nothing && (is_insert(kind) || kind == steal && view[me] || is_fenced(kind) && fence(me, from)) ->
			printf("worker %d: %e: is late, no answer\n", me, kind);
			late.kind = kind; late.token = me; late.from = from;
			if
			:: unheard -> step = doubt
			:: else -> printf("worker %d: dies\n", me); leave()
			fi
		fi;
		outcome = none }
	/*
	 * The row is read again. What it shows is believed. What it does not show is no proof, and a read that failed is none
	 * either: then the same transaction runs again, or the worker gives up and releases the key.
	 */
	:: atomic { step == doubt ->
		if
		:: shown -> printf("worker %d: finds its %e done\n", me, kind); adopt()
		:: lost -> printf("worker %d: finds the key in other hands\n", me); tell(); leave()
		:: unheard || !shown && !lost ->
			if
			:: step = transact
			:: unheard ->
				if
				:: is_insert(kind) || kind == steal || kind == release || kind == release_unsent -> leave()
				:: else -> kind = release; step = transact
				fi
			fi
		fi }
	:: atomic { step == calling ->
		if
		:: !sent -> kind = arm; step = transact
		:: sent && (find || ref || age != in_window && !wrong(no_window)) -> step = looking; about--; sent = 0; find = 0; mine = 0
		:: sent && !(find || ref || age != in_window && !wrong(no_window)) ->
			step = sending; pausing++; sent = 0; printf("worker %d: is about to send\n", me)
		fi }
	:: atomic { step == sending ->
		pausing--; about--;
		REQUIRE(I5, rides == 1 && row.sent);
		if
		:: arrive()
		:: !calm -> arrive(); reply = r_unknown; printf("worker %d: Stripe's answer is lost\n", me)
		:: !calm -> reply = r_unknown
		:: !calm -> reply = r_transient
		:: !calm && !flying -> flying = 1; reply = r_unknown; printf("worker %d: its request is still on the wire\n", me)
		fi;
		printf("worker %d: sends: %e\n", me, reply);
		judge(); reply = none }
	/* The list of all payments of this key; and cancelling one that failed, once nothing is sent any more. */
	:: atomic { step == looking ->
		if
		:: !calm -> reply = r_unknown
		:: stripe.intents == 0 -> reply = r_nothing
		:: stripe.intents > 1 -> reply = r_suspect
		:: stripe.intents == 1 && stripe.intent == succeeded -> reply = r_charged; REACHED(adopted)
		:: stripe.intents == 1 && stripe.intent == processing -> reply = r_processing
		:: stripe.intents == 1 && stripe.intent == canceled -> reply = r_declined
		:: stripe.intents == 1 && stripe.intent == failed && (ref || wrong(no_cancel)) -> reply = r_declined
		:: stripe.intents == 1 && stripe.intent == failed && !ref && !wrong(no_cancel) && age != in_window ->
			stripe.intent = canceled; stripe.roll = 0;
			if
			:: reply = r_declined
			:: !calm -> reply = r_unknown
			fi
		:: stripe.intents == 1 && stripe.intent == failed && !ref && !wrong(no_cancel) && age == in_window -> reply = r_nothing
		fi;
		printf("worker %d: looks it up: %e\n", me, reply);
		judge(); reply = none }
	:: atomic { step != idle && dies ->
		printf("worker %d: dies\n", me);
		if
		:: step == sending -> pausing--; about--
		:: step == calling && sent -> about--
		:: else
		fi;
		leave() }
	od
}

#define quiet (pausing == 0 && !flying)

/* What happens by itself: late transactions and requests, the passing of time, what Stripe does alone, and the reaper. */
proctype world()
{
	mtype kind = nothing;
	byte token;
	mtype from = started;
end:
	do
	:: atomic { late.kind != nothing ->
		kind = late.kind; token = late.token; from = late.from; forget_late();
		if
		:: write(kind, token, from, true); printf("late %e: %e\n", kind, outcome);
			if
			:: outcome == applied -> REACHED(late_commit)
			:: else
			fi
		:: printf("late %e: never arrives\n", kind)
		fi;
		kind = nothing; token = 0; from = started; outcome = none }
	:: atomic { flying ->
		flying = 0;
		if
		:: arrive(); printf("the request on the wire arrives: %e\n", reply)
		:: printf("the request on the wire is lost\n")
		fi;
		reply = none }
	/* The time that the last send had is over. Nobody pauses for so long between its announcement and its end. */
	:: atomic { row.called && about == 0 && !flying -> row.called = 0; others[1] = 0; others[2] = 0; others[3] = 0 }
	:: atomic { row.sent && age == in_window -> age = after_20h; printf("20 hours have passed\n") }
	:: atomic { row.sent && age == after_20h && (quiet || wrong(endless_pause)) -> age = after_24h; printf("24 hours have passed\n") }
	:: atomic { stripe.saved != unsaved && (age == after_24h || stripe.old) && (quiet || wrong(endless_pause)) ->
		stripe.saved = unsaved; stripe.old = 0; printf("Stripe forgets the key\n"); REACHED(forgotten) }
	:: atomic { stripe.intent == processing ->
		if
		:: stripe.intent = succeeded; stripe.charges++; printf("the payment succeeds\n")
		:: stripe.intent = failed; printf("the payment fails\n")
		fi;
		check() }
	:: atomic { stripe.roll ->
		stripe.roll = 0;
		if
		:: printf("Stripe rolls the 500 forward\n"); REACHED(rolled);
			if
			:: stripe.intents == 0 || stripe.intent != failed -> stripe.intents++
			:: else
			fi;
			stripe.intent = succeeded; stripe.charges++
		:: printf("Stripe leaves the 500 as it is\n")
		fi;
		check() }
	/* The reaper. The answer goes after the retention; the tombstone goes 30 days later, when no request can be on its way. */
	:: atomic { row.state == finished || row.state == open && wrong(reap_unfinished) ->
		printf("the key is reaped\n"); REACHED(tombstone);
		row.state = tombstone; row.point = done; row.answer = none; told = none; hand(NOBODY); check() }
#ifndef TWO_MORTALS
	:: atomic { row.state == tombstone && quiet && (!row.sent || age == after_24h) ->
		printf("the tombstone goes\n");
		row.state = absent; row.point = started; row.sent = 0; row.find = 0; row.ref = 0; hand(NOBODY); check() }
#endif
#ifdef CALM
	:: atomic { !calm -> calm = 1; printf("faults stop\n") }
#endif
	od
}

/*
 * A person who parks, retries and resolves. The person says "not charged" only when Stripe shows nothing that charged or
 * may charge: the payment was cancelled, or there is none and none can come, because 24 hours have passed and Stripe
 * rolls no 500 forward any more. A program cannot see the latter, so it is an assumption about people. Nor can it see
 * that a request whose sender has given up is still on the wire. What it does see is whether a call that was announced
 * may not have ended: if none can be, and Stripe shows nothing, 24 hours need not have passed.
 */
#define harmless (stripe.intents == 0 || stripe.intents == 1 && stripe.intent == canceled)
#define nothing_is_called (!stripe.roll && stripe.saved == unsaved && stripe.intents == 0 && !flying && (!row.called || wrong(call_unseen)))
#define nothing_can_come (nothing_is_called || !stripe.roll && (!row.sent || age == after_24h || stripe.intents == 1) || wrong(hasty_operator))

proctype operator()
{
	mtype kind = nothing;
end:
	do
	:: atomic { !calm ->
		if
		:: row.state == open -> kind = operator_park
		:: row.state == open || row.state == parked -> kind = operator_retry
		:: row.state == parked && row.point == ride_created && stripe.intents == 1 && stripe.intent == succeeded ->
			kind = operator_charged
		:: row.state == parked && row.point != charge_created && harmless && nothing_can_come ||
			wrong(resolve_finished) && row.state == finished ->
			kind = operator_not_charged;
			if
			:: nothing_is_called && row.sent && age == in_window -> REACHED(resolved_soon)
			:: else
			fi
		fi;
		if
		:: write(kind, NOBODY, started, true); printf("%e: %e\n", kind, outcome)
		:: late.kind == nothing -> late.kind = kind; printf("%e: is late\n", kind)
		fi;
		kind = nothing; outcome = none }
	od
}

init {
	atomic {
		/* number, mortal, deaf, client */
		run worker(1, 1, 1, 1);
#ifdef TWO_MORTALS
		run worker(2, 1, 0, 0);
#endif
#ifdef OPERATOR
		run operator();
#endif
		if
		:: !wrong(no_completer) -> run worker(3, 0, 0, 0)
		:: else
		fi;
		run world()
	}
}

#ifdef CALM
/* Whatever happened before: once faults have stopped, the key comes to rest, and no client waits for ever. */
ltl I16 { [] (calm -> <> (row.state != open)) }
#endif
