// Hail hails one ride and charges for it once, however often it is killed and
// started again: it keeps the ride's key in the file ride.key.
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
	key, err := keptKey("ride.key")
	if err != nil {
		log.Fatal(err)
	}
	answer, err := rides.Create(context.Background(), client.NewRide{
		Origin: client.Point{Lat: 37.7749, Lon: -122.4194},
		Target: client.Point{Lat: 37.8044, Lon: -122.2712},
		Key:    key,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Ride.ID, answer.Ride.Status, answer.Ride.Fare.Amount, answer.Ride.Fare.Currency)
}

// keptKey returns the key in the file, which it makes if there is none. The file
// gets its name when it is whole, so a kill leaves no key or all of it.
func keptKey(name string) (string, error) {
	key, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(client.NewKey())
		err = writeWhole(name, key)
	}
	if err == nil && len(key) == 0 { // the client would make a key at each start
		err = errors.New(name + " is empty, and may have had the key of a ride: look at your rides, then remove it")
	}
	return string(key), err
}

func writeWhole(name string, content []byte) error {
	file, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
