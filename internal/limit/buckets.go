package limit

import (
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxClients is how many clients are remembered, those that were seen last. A
// client that was forgotten begins with a full bucket, which one that wasn't
// seen for long has anyway.
const maxClients = 10_000

// A Rate is what each client may have: so many per second in the long run, and
// so many at once.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Buckets is a token bucket for each client. It is safe for concurrent use.
type Buckets struct {
	rate    Rate
	clients *lru.Cache[string, *rate.Limiter]
}

// NewBuckets returns a full bucket for each client. Both numbers of the rate
// must be positive.
func NewBuckets(r Rate) *Buckets { return &Buckets{rate: r, clients: newCache[*rate.Limiter]()} }

func newCache[V any]() *lru.Cache[string, V] {
	cache, err := lru.New[string, V](maxClients)
	if err != nil {
		panic("limit: " + err.Error()) // the size is positive
	}
	return cache
}

// A Quota is what is left to a client.
type Quota struct {
	// Granted means that a token was taken.
	Granted bool
	// Remaining is how many more can be taken at once.
	Remaining int
	// Full is how long it takes until the bucket is full, if nothing is taken.
	Full time.Duration
	// Wait is how long it takes until there is a token. It is 0 if there is
	// one.
	Wait time.Duration
}

// Take takes a token of a client, if there is one.
func (b *Buckets) Take(client string) Quota {
	bucket, known := b.clients.Get(client)
	if !known {
		bucket = rate.NewLimiter(rate.Limit(b.rate.PerSecond), b.rate.Burst)
		if earlier, found, _ := b.clients.PeekOrAdd(client, bucket); found {
			bucket = earlier
		}
	}
	now := time.Now()
	granted := bucket.AllowN(now, 1)
	left := bucket.TokensAt(now)
	return Quota{
		Granted: granted, Remaining: max(int(left), 0),
		Full: b.timeFor(float64(b.rate.Burst) - left), Wait: b.timeFor(1 - left),
	}
}

// timeFor returns how long it takes until there are so many tokens more.
func (b *Buckets) timeFor(tokens float64) time.Duration {
	return time.Duration(math.Ceil(max(tokens, 0) / b.rate.PerSecond * float64(time.Second)))
}

// Window returns how long it takes to fill an empty bucket. Who takes no more
// than the burst within this time is never refused.
func (b *Buckets) Window() time.Duration { return b.timeFor(float64(b.rate.Burst)) }

// Burst returns how many tokens a full bucket has.
func (b *Buckets) Burst() int { return b.rate.Burst }
