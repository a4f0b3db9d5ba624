package rides

import "math"

// currency is the currency of every fare as Stripe writes it: ISO 4217, in
// lower case.
const currency = "usd"

// The tariff, in cents. A change of it applies to new rides; a ride that exists
// keeps its fare.
const (
	baseFare         = 200
	farePerKilometre = 160
	fareStep         = 50
)

// MinimumFare is what the shortest ride costs, in cents.
const MinimumFare = 500

// earthRadius is the mean radius of the earth (IUGG), in metres.
const earthRadius = 6_371_008.8

// Fare returns what a ride costs, in US cents: 200, plus 160 per kilometre of
// the great circle between the points, rounded up to the next 50, and at least
// 500. The distance is rounded to whole metres first, so that the rest is
// integer arithmetic. A longer way never costs less, and both directions cost
// the same.
//
// The points should be finite and in range. For NaN or an infinity the fare is
// that of the longest way on earth, so that a bug in other code cannot make a
// ride cheap.
func Fare(origin, target Point) int64 {
	const metresPerKilometre = 1000
	milliCents := baseFare*metresPerKilometre + farePerKilometre*distance(origin, target)
	const step = fareStep * metresPerKilometre
	return max((milliCents+step-1)/step*fareStep, MinimumFare)
}

// distance returns the length of the great circle between two points in whole
// metres, by the haversine formula.
func distance(a, b Point) int64 {
	const radians = math.Pi / 180
	sinLat := math.Sin((b.Lat - a.Lat) * radians / 2)
	sinLon := math.Sin((b.Lon - a.Lon) * radians / 2)
	haversine := sinLat*sinLat + math.Cos(a.Lat*radians)*math.Cos(b.Lat*radians)*sinLon*sinLon
	angle := 2 * math.Asin(math.Sqrt(haversine))
	if math.IsNaN(angle) { // For antipodes, rounding can make the haversine greater than 1.
		angle = math.Pi
	}
	return int64(math.Round(earthRadius * angle))
}
