// An engine that speaks OpenAI's chat completions, for measuring what is in front of it.
//
//	engine HOST:PORT                  answers at once with the same twenty words, whole or streamed: it costs nothing
//	engine HOST:PORT SLOTS PACE_MS    SLOTS answers at once, the others wait; a word every PACE_MS, always streamed
//
// With slots it writes as many words as the last message says ("Say 300 words."), and remembers under which name
// ("(name)" after that) an answer's stream was cut and when: GET /stats.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const words = 20

var asked = regexp.MustCompile(`Say (\d+) words\.(?: \(([\w-]+)\))?`)

const delta = `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":` +
	`[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}` + "\n\n"

func end(written int) string {
	return `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":` +
		`[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" +
		fmt.Sprintf(`data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":[],"usage":`+
			`{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}`+"\n\ndata: [DONE]\n\n", written, written+10)
}

type stats struct {
	sync.Mutex
	Running int              `json:"running"`
	Waiting int              `json:"waiting"`
	Most    int              `json:"most_waiting"`
	Done    int              `json:"done"`
	Cut     map[string]int64 `json:"cut"` // name → when, in nanoseconds of the clock
}

func (s *stats) change(with func()) {
	s.Lock()
	defer s.Unlock()
	with()
}

// paced answers as an engine does that has a fixed number of places in its batch.
func paced(slots int, pace time.Duration, seen *stats) http.HandlerFunc {
	places := make(chan struct{}, slots)
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		count, name := words, ""
		if found := asked.FindAllSubmatch(body, -1); found != nil {
			last := found[len(found)-1]
			count, _ = strconv.Atoi(string(last[1]))
			name = string(last[2])
		}
		seen.change(func() { seen.Waiting++; seen.Most = max(seen.Most, seen.Waiting) })
		select {
		case places <- struct{}{}:
			seen.change(func() { seen.Waiting--; seen.Running++ })
		case <-r.Context().Done():
			seen.change(func() { seen.Waiting--; seen.Cut[name] = time.Now().UnixNano() })
			return
		}
		defer func() {
			seen.change(func() { seen.Running-- })
			<-places
		}()
		w.Header().Set("Content-Type", "text/event-stream")
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for range count {
			select {
			case <-ticker.C:
				io.WriteString(w, delta)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				seen.change(func() { seen.Cut[name] = time.Now().UnixNano() })
				return
			}
		}
		io.WriteString(w, end(count))
		seen.change(func() { seen.Done++ })
	}
}

func atOnce() http.HandlerFunc {
	whole := fmt.Sprintf(`{"id":"x","object":"chat.completion","created":1,"model":"stub","choices":[{"index":0,"message":`+
		`{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":%d,`+
		`"total_tokens":%d}}`, strings.Repeat("word ", words), words, words+10)
	stream := []byte(strings.Repeat(delta, words) + end(words))
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(`"stream":true`)) || bytes.Contains(body, []byte(`"stream": true`)) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write(stream)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, whole)
	}
}

func main() {
	seen := &stats{Cut: map[string]int64{}}
	answer := atOnce()
	if len(os.Args) == 4 {
		slots, _ := strconv.Atoi(os.Args[2])
		pace, _ := strconv.ParseFloat(os.Args[3], 64)
		answer = paced(slots, time.Duration(pace*float64(time.Millisecond)), seen)
	}
	http.HandleFunc("/v1/models", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object":"list","data":[{"id":"stub","object":"model"}]}`)
	})
	http.HandleFunc("/stats", func(w http.ResponseWriter, r *http.Request) {
		seen.Lock()
		defer seen.Unlock()
		json.NewEncoder(w).Encode(seen)
	})
	http.HandleFunc("/v1/chat/completions", answer)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
}
