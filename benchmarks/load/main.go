// Load for a chat completions route; what came of it as JSON on standard output.
//
//	load rate  URL KEYS PER_SECOND SECONDS BODY    that many requests begin a second, whatever becomes of the others
//	load slow  URL KEYS COUNT SECONDS BODY         COUNT streams of which a byte a second is read
//	load leave URL KEYS COUNT SECONDS BODY         COUNT streams, all left at once SECONDS after the last one's first word
//
// KEYS: with commas between them, used in turn. In BODY the word NUMBER becomes the request's number.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

type outcome struct {
	status  int
	took    time.Duration
	ended   time.Duration
	first   time.Duration
	whole   bool
	retries bool
}

func request(to string, keys []string, body string, number int) *http.Request {
	made, err := http.NewRequest("POST", to, strings.NewReader(strings.ReplaceAll(body, "NUMBER", strconv.Itoa(number))))
	if err != nil {
		panic(err)
	}
	made.Header.Set("Content-Type", "application/json")
	made.Header.Set("Authorization", "Bearer "+keys[number%len(keys)])
	return made
}

func quantile(some []time.Duration, at float64) float64 {
	if len(some) == 0 {
		return 0
	}
	sort.Slice(some, func(i, j int) bool { return some[i] < some[j] })
	return float64(some[min(len(some)-1, int(at*float64(len(some))))]) / float64(time.Millisecond)
}

func ask(client *http.Client, made *http.Request, began time.Time) outcome {
	sent := time.Now()
	answer, err := client.Do(made)
	if err != nil {
		return outcome{status: 0, took: time.Since(sent), ended: time.Since(began)}
	}
	defer answer.Body.Close()
	reader := bufio.NewReaderSize(answer.Body, 1<<16)
	found := outcome{status: answer.StatusCode, retries: answer.Header.Get("Retry-After") != ""}
	stream := strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream")
	for {
		line, err := reader.ReadString('\n')
		if found.first == 0 && strings.Contains(line, `"content":"word`) {
			found.first = time.Since(sent)
		}
		if strings.HasPrefix(line, "data: [DONE]") {
			found.whole = true
		}
		if err != nil {
			found.whole = err == io.EOF && (found.whole || !stream)
			break
		}
	}
	found.took, found.ended = time.Since(sent), time.Since(began)
	return found
}

func rate(to string, keys []string, each float64, seconds float64, body string) any {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}}
	began := time.Now()
	total := int(each * seconds)
	found := make([]outcome, total)
	var running sync.WaitGroup
	for number := range total {
		time.Sleep(time.Until(began.Add(time.Duration(float64(number) / each * float64(time.Second)))))
		running.Add(1)
		go func() {
			defer running.Done()
			found[number] = ask(client, request(to, keys, body, number), began)
		}()
	}
	running.Wait()
	statuses := map[string]int{}
	var refused, served, first []time.Duration
	late, silent, broken, good := 0, 0, 0, 0
	// In the first third queues fill; after the end they empty.
	from, until := time.Duration(seconds/3*float64(time.Second)), time.Duration(seconds*float64(time.Second))
	for _, one := range found {
		statuses[strconv.Itoa(one.status)]++
		switch one.status {
		case 200:
			if !one.whole {
				broken++
				continue
			}
			served, first = append(served, one.took), append(first, one.first)
			if one.ended >= from && one.ended < until {
				good++
			}
		case 429:
			refused = append(refused, one.took)
			if one.took > 100*time.Millisecond {
				late++
			}
			if !one.retries {
				silent++
			}
		}
	}
	return map[string]any{
		"offered": each, "statuses": statuses, "broken": broken, "goodput": float64(good) / (until - from).Seconds(),
		"served_p50_ms": quantile(served, .5), "served_p99_ms": quantile(served, .99),
		"first_p50_ms": quantile(first, .5), "first_p99_ms": quantile(first, .99),
		"refused": len(refused), "refused_late": late, "refused_without_retry_after": silent,
		"refused_p50_ms": quantile(refused, .5), "refused_p99_ms": quantile(refused, .99), "refused_most_ms": quantile(refused, 1),
	}
}

// dial sends a request on a connection of its own with as little room for what comes back as there may be.
func dial(to string, made *http.Request) net.Conn {
	parts, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	connection, err := net.Dial("tcp", parts.Host)
	if err != nil {
		panic(err)
	}
	connection.(*net.TCPConn).SetReadBuffer(2048)
	if err := made.Write(connection); err != nil {
		panic(err)
	}
	return connection
}

func slow(to string, keys []string, count int, seconds float64, body string) any {
	var running sync.WaitGroup
	var read [1 << 12]int
	for number := range count {
		running.Add(1)
		go func() {
			defer running.Done()
			connection := dial(to, request(to, keys, body, number))
			defer connection.Close()
			one := make([]byte, 1)
			for range int(seconds) {
				if _, err := connection.Read(one); err != nil {
					return
				}
				read[number]++
				time.Sleep(time.Second)
			}
		}()
	}
	running.Wait()
	least := read[0]
	for number := range count {
		least = min(least, read[number])
	}
	return map[string]any{"slow": count, "least_bytes": least}
}

func leave(to string, keys []string, count int, seconds float64, body string) any {
	connections := make([]net.Conn, count)
	var started sync.WaitGroup
	var mutex sync.Mutex
	failed := 0
	for number := range count {
		started.Add(1)
		go func() {
			connection := dial(to, request(to, keys, body, number))
			connections[number] = connection
			reader := bufio.NewReader(connection)
			for {
				line, err := reader.ReadString('\n')
				if err != nil || strings.Contains(line, `"content":"word`) {
					if err != nil {
						mutex.Lock()
						failed++
						mutex.Unlock()
					}
					break
				}
			}
			started.Done()
			io.Copy(io.Discard, reader)
		}()
	}
	started.Wait()
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	left := map[string]int64{}
	for number, connection := range connections {
		connection.Close()
		left[strconv.Itoa(number)] = time.Now().UnixNano()
	}
	return map[string]any{"left": left, "failed": failed}
}

func main() {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "load rate|slow|leave URL KEYS NUMBER SECONDS BODY")
		os.Exit(2)
	}
	to, keys, body := os.Args[2], strings.Split(os.Args[3], ","), os.Args[6]
	number, _ := strconv.ParseFloat(os.Args[4], 64)
	seconds, _ := strconv.ParseFloat(os.Args[5], 64)
	var said any
	switch os.Args[1] {
	case "rate":
		said = rate(to, keys, number, seconds, body)
	case "slow":
		said = slow(to, keys, int(number), seconds, body)
	case "leave":
		said = leave(to, keys, int(number), seconds, body)
	}
	json.NewEncoder(os.Stdout).Encode(said)
}
