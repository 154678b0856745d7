// Goroutines that wait for a reply on a channel that nobody writes to.
// Arguments: seconds, MiB to lose.
package main

import (
	"os"
	"strconv"
	"time"
)

func wait(reply chan int) int {
	var request [6000]byte
	request[0] = 1
	got := <-reply
	return got + int(request[0])
}

func main() {
	seconds, _ := strconv.ParseFloat(os.Args[1], 64)
	mib, _ := strconv.ParseFloat(os.Args[2], 64)
	pace := mib * 1048576 / seconds / 8400
	begun, started := time.Now(), 0
	for {
		for ; float64(started) < time.Since(begun).Seconds()*pace; started++ {
			go wait(make(chan int))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
