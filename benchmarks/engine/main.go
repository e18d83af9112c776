// An engine that costs nothing: it answers every chat completion at once with the same twenty words, whole or streamed.
// engine HOST:PORT
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

const words = 20

func main() {
	whole := fmt.Sprintf(`{"id":"x","object":"chat.completion","created":1,"model":"stub","choices":[{"index":0,"message":`+
		`{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":%d,`+
		`"total_tokens":%d}}`, strings.Repeat("word ", words), words, words+10)
	var stream bytes.Buffer
	for range words {
		stream.WriteString(`data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":` +
			`[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}` + "\n\n")
	}
	stream.WriteString(`data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":` +
		`[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n")
	fmt.Fprintf(&stream, `data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"stub","choices":[],"usage":`+
		`{"prompt_tokens":10,"completion_tokens":%d,"total_tokens":%d}}`+"\n\ndata: [DONE]\n\n", words, words+10)
	http.HandleFunc("/v1/models", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"object":"list","data":[{"id":"stub","object":"model"}]}`)
	})
	http.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte(`"stream":true`)) || bytes.Contains(body, []byte(`"stream": true`)) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write(stream.Bytes())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, whole)
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], nil))
}
