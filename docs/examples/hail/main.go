// Hail hails one ride and charges for it once, however often it is started and
// whatever dies meanwhile: it keeps the ride's key in the file ride.key.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/rocketrides/rocketrides/client"
)

func main() {
	rides, err := client.New(client.Config{URL: os.Getenv("API_URL"), APIKey: os.Getenv("API_KEY")})
	if err != nil {
		log.Fatal(err)
	}
	key, err := os.ReadFile("ride.key")
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(client.NewKey())
		err = os.WriteFile("ride.key", key, 0o600)
	}
	if err != nil {
		log.Fatal(err)
	}
	answer, err := rides.Create(context.Background(), client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
		Key:    string(key),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Ride.ID, answer.Ride.Status, answer.Ride.Fare.Amount, answer.Ride.Fare.Currency)
}
