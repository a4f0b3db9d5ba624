package rides_test

import (
	"fmt"

	"github.com/rocketrides/rocketrides/internal/rides"
)

// From San Francisco to Oakland, and the least that a ride costs.
func ExampleFare() {
	sanFrancisco := rides.Point{Lat: 37.7749, Lon: -122.4194}
	oakland := rides.Point{Lat: 37.8044, Lon: -122.2712}
	fmt.Println(rides.Fare(sanFrancisco, oakland), "cents")
	fmt.Println(rides.Fare(sanFrancisco, sanFrancisco), "cents at least")
	// Output:
	// 2350 cents
	// 500 cents at least
}
