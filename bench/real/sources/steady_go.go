// A bounded working set that is replaced all the time: the saw of the collector (GOGC=100).
package main

import (
	"math/rand"
	"time"
)

func main() {
	working := make([][]byte, 8000)
	for {
		for i := 0; i < 60; i++ {
			working[rand.Intn(len(working))] = make([]byte, 1000+rand.Intn(12000))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
