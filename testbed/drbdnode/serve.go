package drbdnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// exitTrailer has the exit code of a command, after all that it said.
const exitTrailer = "X-Exit"

// Serve carries out the commands that a rig sends to this host. It returns with an error.
func Serve() error {
	srv := http.Server{Addr: ":7777", Handler: http.HandlerFunc(serve), ReadHeaderTimeout: time.Minute}
	return srv.ListenAndServe()
}

// serve runs one command, whose arguments are a list in JSON, and sends what it says as it
// says it. It ends with the request.
func serve(w http.ResponseWriter, r *http.Request) {
	var args []string
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil || len(args) == 0 {
		http.Error(w, fmt.Sprint("no command: ", err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Trailer", exitTrailer)
	w.WriteHeader(http.StatusOK)
	cmd := exec.CommandContext(r.Context(), args[0], args[1:]...)
	out := flusher{w, http.NewResponseController(w)}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	code := 0
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		fmt.Fprintln(out, err)
		code = -1
	}
	w.Header().Set(exitTrailer, strconv.Itoa(code))
}

// flusher sends each write at once.
type flusher struct {
	io.Writer
	to *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	if err == nil {
		err = f.to.Flush()
	}
	return n, err
}

// WriteRows appends numbers to a file, and says each one when it is on disk.
func WriteRows(file string) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	for i := 0; err == nil; i++ {
		if _, err = fmt.Fprintf(f, "%d\n", i); err == nil {
			if err = f.Sync(); err == nil {
				fmt.Println(i)
				time.Sleep(WriterRests)
			}
		}
	}
	return err
}
