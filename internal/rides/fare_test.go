package rides

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestFareOfKnownRides(t *testing.T) {
	t.Parallel()
	sanFrancisco := Point{Lat: 37.7749, Lon: -122.4194}
	for name, c := range map[string]struct {
		origin, target Point
		want           int64
	}{
		"San Francisco to Oakland":             {sanFrancisco, Point{Lat: 37.8044, Lon: -122.2712}, 2350},
		"nowhere costs the minimum":            {sanFrancisco, sanFrancisco, 500},
		"the last metre at the minimum":        {Point{}, east(1875), 500},
		"a metre more is the next step":        {Point{}, east(1876), 550},
		"the last metre of a step":             {Point{}, east(5000), 1000},
		"a metre beyond it is the next":        {Point{}, east(5001), 1050},
		"across the antimeridian":              {Point{Lon: 179.99}, Point{Lon: -179.99}, 600},
		"a quarter of the equator":             {Point{}, Point{Lon: 90}, 1_601_450},
		"pole to pole":                         {Point{Lat: 90}, Point{Lat: -90}, 3_202_650},
		"antipodes":                            {Point{Lat: 37.7749, Lon: -122.4194}, Point{Lat: -37.7749, Lon: 57.5806}, 3_202_650},
		"not a number costs the longest way":   {Point{Lat: math.NaN()}, Point{}, 3_202_650},
		"an infinity costs the longest way":    {Point{}, Point{Lon: math.Inf(1)}, 3_202_650},
		"all of one pole is one place":         {Point{Lat: 90, Lon: 10}, Point{Lat: 90, Lon: -170}, 500},
		"a degree is shorter in the north":     {Point{Lat: 60}, Point{Lat: 60, Lon: 1}, 9100},
		"a degree is longer on the equator":    {Point{}, Point{Lon: 1}, 18000},
		"a degree along a meridian is as long": {Point{Lat: 59.5}, Point{Lat: 60.5}, 18000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := Fare(c.origin, c.target); got != c.want {
				t.Errorf("got %d cents, want %d", got, c.want)
			}
		})
	}
}

func TestFareGrowsWithDistance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := places(t, "a"), places(t, "b"), places(t, "c"), places(t, "d")
		near, far := chord(a, b), chord(c, d)
		if near > far {
			a, b, c, d, near, far = c, d, a, b, far, near
		}
		// Two ways of computing a distance differ by rounding; a metre is
		// 1.6e-7 earth radii.
		if far-near > 1e-6 && Fare(a, b) > Fare(c, d) {
			t.Fatalf("%v to %v costs %d, but the longer %v to %v costs %d", a, b, Fare(a, b), c, d, Fare(c, d))
		}
	})
}

func TestFareIsSymmetricAndBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := places(t, "a"), places(t, "b")
		fare := Fare(a, b)
		if back := Fare(b, a); back != fare {
			t.Fatalf("there costs %d, back %d", fare, back)
		}
		if fare < 500 || fare > 3_202_650 || fare%50 != 0 {
			t.Fatalf("%v to %v costs %d", a, b, fare)
		}
		// The rule itself, in floating point, from an independent distance; a
		// metre is 0.16 cents.
		exact := 200 + 160*6371.0088*2*math.Asin(min(chord(a, b)/2, 1))
		if over := float64(fare) - exact; over < -1 || (over > 51 && fare > 500) {
			t.Fatalf("%v to %v costs %d, but %.2f before rounding up", a, b, fare, exact)
		}
	})
}

// chord is the straight distance between two places through a sphere of radius
// 1. It grows with the great circle.
func chord(a, b Point) float64 {
	ax, ay, az := vector(a)
	bx, by, bz := vector(b)
	return math.Sqrt((ax-bx)*(ax-bx) + (ay-by)*(ay-by) + (az-bz)*(az-bz))
}

func vector(p Point) (x, y, z float64) {
	lat, lon := p.Lat*math.Pi/180, p.Lon*math.Pi/180
	return math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)
}

// east is the point on the equator so many metres east of 0, 0.
func east(metres float64) Point {
	return Point{Lon: metres / earthRadius * 180 / math.Pi}
}

func places(t *rapid.T, name string) Point {
	t.Helper()
	return Point{
		Lat: rapid.Float64Range(-90, 90).Draw(t, name+" lat"),
		Lon: rapid.Float64Range(-180, 180).Draw(t, name+" lon"),
	}
}
