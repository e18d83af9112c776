// A server that speaks MongoDB's protocol, for tests: FerretDB on SQLite files in a directory.
//
//	ferretdb ADDRESS DIRECTORY
//
// FerretDB reads a document and then writes it, with nothing in between that would notice another writer. MongoDB
// changes one document atomically, and that is what the adapters rest on: so commands that change something go through
// one at a time here, which is the same to a client.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

var writing sync.Mutex

func main() {
	address, directory := os.Args[1], os.Args[2]
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	socket := filepath.Join(directory, "inner.sock")
	os.Remove(socket) // of an instance that was killed
	server, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{Unix: socket},
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Handler:  "sqlite",
		// Tests kill processes, not the machine: what the system has taken is kept.
		SQLiteURL: "file:" + directory + "/?_pragma=synchronous(off)",
	})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			client, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			} else if err == nil {
				go serve(client, socket)
			}
		}
	}()
	server.Run(ctx)
	listener.Close()
}

// serve carries one client's messages to FerretDB and its replies back. Each message has one reply.
func serve(client net.Conn, socket string) {
	defer client.Close()
	inner, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer inner.Close()
	for {
		message, err := read(client)
		if err != nil {
			return
		}
		reply, err := exchange(inner, message)
		if err != nil {
			return
		}
		if _, err = client.Write(reply); err != nil {
			return
		}
	}
}

func exchange(inner net.Conn, message []byte) ([]byte, error) {
	switch command(message) {
	case "insert", "update", "delete", "findAndModify", "findandmodify", "createIndexes", "dropDatabase", "drop":
		writing.Lock()
		defer writing.Unlock()
	}
	if _, err := inner.Write(message); err != nil {
		return nil, err
	}
	return read(inner)
}

func read(from net.Conn) ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(from, size); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(size)
	if length < 16 || length > 64<<20 {
		return nil, errors.New("not a message")
	}
	message := append(size, make([]byte, length-4)...)
	_, err := io.ReadFull(from, message[4:])
	return message, err
}

// command is the name in an OP_MSG: the key of the first element of the document that follows 16 bytes of header, 4 of
// flags and 1 of kind.
func command(message []byte) string {
	const name = 16 + 4 + 1 + 4 + 1
	if len(message) <= name || binary.LittleEndian.Uint32(message[12:]) != 2013 {
		return ""
	}
	for end := name; end < len(message); end++ {
		if message[end] == 0 {
			return string(message[name:end])
		}
	}
	return ""
}
