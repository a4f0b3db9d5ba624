/*
 * One ride of Rocket Rides that two keys try to cancel, and everything that can change its refund: an API worker and a
 * completer at the first key, a worker at the second, Stripe, its dashboard, and the card's holder, who may dispute the
 * charge. rides.pml has the engine in all detail: the fence, lost COMMITs, the window. Here a transaction is one step,
 * and what is looked at is what a cancel adds: the claim of the ride, and a refund whose state Stripe may change later.
 *
 * Names of the parts in the service: `insert` is claimRide, `judge` is the table of refund_results.go, `record`, `refuse`
 * and `park` are recordRefund, all in internal/rides/cancel.go unless said otherwise.
 *
 * The switches are those of rides.pml.
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
mtype = { I1, I2, I4, I8, I12 };
mtype = { no_claim, freed_early, refused_after_loss, pending_is_done, part_fenced };
mtype = { refunded, refused, parked, adopted, second_key, failed_late, takeover, refused_by_dispute };

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

/* The rows of the two keys: what is stored, who holds the row, and whether its call is only looked up from now on. */
mtype = { absent, open, answered_200, answered_409, under_review };
typedef Row {
	mtype state = absent;
	byte token;
	bit find;
}
Row row[3];

byte claim;     /* rides.cancel_key: the number of the key, or 0 */
bit canceled;   /* the ride's status */

/*
 * Stripe: the refund that each key made, whose first answer it has saved; one that somebody made at the dashboard; and
 * whether a dispute keeps the charge from being refunded. A refusal is not saved, but for the one that all was refunded,
 * which may be: then the key is barred from making a refund. Each refund is all that is left, so there is nothing left
 * for another one.
 */
mtype = { unmade, barred, waiting, succeeded, failed };
mtype own[3] = unmade;
mtype dashboard = unmade;
bit disputed;
bit was_back;   /* all of the money was back at some time */

#define given(it) (it == waiting || it == succeeded)
#define gives(k)  given(own[k])
#define all_given (given(dashboard) || gives(1) || gives(2))
#define all_back  (dashboard == succeeded || own[1] == succeeded || own[2] == succeeded)

/* What must hold after every step. */
inline check() {
	was_back = was_back || all_back;
	REQUIRE(I1, given(dashboard) + gives(1) + gives(2) <= 1);
	REQUIRE(I2, row[1].state != answered_200 && row[2].state != answered_200 || canceled && was_back);
	REQUIRE(I2, row[1].state != answered_200 || row[2].state != answered_200);
	REQUIRE(I4, !gives(1) || canceled || row[1].state == open || row[1].state == under_review);
	REQUIRE(I4, !gives(2) || canceled || row[2].state == open || row[2].state == under_review);
	REQUIRE(I12, canceled || row[1].state != open && row[1].state != under_review || claim == 1);
	REQUIRE(I12, canceled || row[2].state != open && row[2].state != under_review || claim == 2)
}

/* The fence: this worker's claim of the key is the current one. */
#define holds_key (row[k].state == open && row[k].token == me)
#define fence     (holds_key || wrong(part_fenced) && row[k].state != absent)

/* A key is finished: it never changes again. */
inline store(how) {
	REQUIRE(I8, row[k].state == open);
	row[k].state = how; row[k].token = 0
}

inline leave() { refusal = 0; first = 0; reply = none }

mtype = { r_done, r_open, r_failed, r_refused, r_look, r_nothing };

/*
 * A worker at key k. It may sleep between any two steps, and it may stop for ever where `mortal` allows that. Any answer
 * of Stripe's may be lost.
 */
proctype worker(byte me; byte k; bit mortal) {
	mtype reply = none;
	bit first;      /* no other worker can have sent */
	bit refusal;    /* Stripe has just refused */

idle:
	if
	:: d_step { row[k].state == absent && !canceled && (claim == 0 || wrong(no_claim)) ->
		row[k].state = open; row[k].token = me; claim = k; first = 1;
		if
		:: k == 2 && own[1] == failed -> REACHED(second_key)
		:: else
		fi;
		check()
	   }; goto act
	:: d_step { row[k].state == open && row[k].token != me ->
		if
		:: row[k].token != 0 -> REACHED(takeover)
		:: else
		fi;
		row[k].token = me; first = 0
	   }; goto act
	:: row[k].state != absent && row[k].state != open -> goto end
	fi;

act:
	if
	:: mortal -> goto end
	:: row[k].find -> goto look
	:: !row[k].find -> goto send
	:: true -> goto look    /* the window is over */
	fi;

send:   /* between the decision to send and the arrival any time may pass */
	atomic {
		reply = none;
		if
		:: own[k] != unmade && own[k] != barred -> reply = r_look
		:: own[k] == unmade && disputed -> reply = r_refused; REACHED(refused_by_dispute)
		:: own[k] == barred -> reply = r_refused
		:: own[k] == unmade && !disputed && all_given -> reply = r_look
		:: own[k] == unmade && !disputed && all_given -> reply = r_look; own[k] = barred
		:: own[k] == unmade && !disputed && !all_given -> own[k] = succeeded; reply = r_done
		:: own[k] == unmade && !disputed && !all_given -> own[k] = waiting; reply = r_look
		:: own[k] == unmade && !disputed && !all_given -> own[k] = failed; reply = r_look
		fi;
		check()
	};
	if
	:: mortal -> goto end
	:: goto release         /* the answer was lost */
	:: reply == r_done -> goto judge
	:: reply == r_look -> goto look
	:: reply == r_refused -> refusal = 1; goto look
	fi;

look:   /* all refunds of the payment */
	atomic {
		if
		:: all_back -> reply = r_done
		:: !all_back && all_given -> reply = (wrong(pending_is_done) -> r_done : r_open)
		:: !all_given && own[k] == failed -> reply = r_failed
		:: !all_given && own[k] != failed -> reply = r_nothing
		fi
	};
	if
	:: goto judge
	:: goto release         /* the answer was lost */
	fi;

judge:
	if
	:: reply == r_done -> goto record
	:: reply == r_open ->   /* only its own refund is waited for: another may fail, and then its own is sent */
		d_step { if :: fence && own[k] != unmade && own[k] != barred -> row[k].find = 1 :: else fi }; goto release
	:: reply == r_failed -> goto refuse
	:: reply == r_nothing && refusal && (first || own[k] == barred || wrong(refused_after_loss)) -> goto refuse
	:: reply == r_nothing && refusal && !first && own[k] != barred && !wrong(refused_after_loss) -> goto park
	:: reply == r_nothing && !refusal -> goto release
	fi;

record:
	atomic {
		if
		:: fence ->
			if
			:: own[k] == unmade -> REACHED(adopted)
			:: else
			fi;
			canceled = 1; store(answered_200); REACHED(refunded)
		:: else
		fi;
		check(); leave()
	};
	goto idle;

refuse:
	atomic {
		if
		:: fence -> store(answered_409); claim = (claim == k -> 0 : claim); REACHED(refused)
		:: else
		fi;
		check(); leave()
	};
	goto idle;

park:
	atomic {
		if
		:: fence -> row[k].state = under_review; row[k].token = 0; REACHED(parked)
		:: else
		fi;
		check(); leave()
	};
	goto idle;

release:
	atomic {
		if
		:: holds_key ->
			row[k].token = 0;
			if
			:: wrong(freed_early) -> claim = 0
			:: else
			fi
		:: else
		fi;
		check(); leave()
	};
	goto idle;

end:
	skip
}

/* What happens at Stripe without us. */
active proctype world() {
end:
	do
	:: d_step { disputed = !disputed }
	:: d_step { own[1] == waiting -> own[1] = succeeded; check() }
	:: d_step { own[2] == waiting -> own[2] = succeeded; check() }
	:: d_step { own[1] == waiting -> own[1] = failed; check() }
	:: d_step { own[2] == waiting -> own[2] = failed; check() }
	:: d_step { own[1] == succeeded && canceled -> own[1] = failed; REACHED(failed_late); check() }
	:: d_step { dashboard == unmade && !all_given && !disputed -> dashboard = waiting; check() }
	:: d_step { dashboard == waiting -> dashboard = succeeded; check() }
	:: d_step { dashboard == waiting -> dashboard = failed; check() }
	od
}

init {
	atomic {
		run worker(1, 1, 1);    /* the api with the first key's request, which may die */
		run worker(2, 1, 0);    /* a completer, or a retry */
		run worker(3, 2, 0)     /* the api with the second key's request */
	}
}
