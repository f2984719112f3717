package send

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"holdfast/internal/lib/text"
)

// Command is the hidden command of this program that sends.
const Command = "notify-send"

// Request is one message to one service.
type Request struct {
	Service string // one of config.Services
	URL     string // secret: where the service takes messages, as it shows that itself; of mail: smtp://HOST:PORT or smtps://
	Secret  string // a password, a token, or the key by which a message is signed; empty: none
	User    string // of mail; empty: no login
	From    string // of mail
	To      string // of mail an address; of Telegram a chat
	CA      string // file with the authorities that vouch for the service; empty: those of the system
	Subject string
	Body    string
	// For programs that read the JSON of a webhook.
	Cluster  string
	Severity string
	ID       string
	Events   int
	Test     bool
	Time     time.Time
	// Until is when it may begin to be sent at the latest: after that, another host may send it. Zero: at any time.
	Until time.Time
	// Within is how long the service may take; 0: Within.
	Within time.Duration
}

// Within is how long a service may take.
const Within = 20 * time.Second

// Longest is how long Run takes at the most.
const Longest = Within + extra + time.Second

const (
	extra     = 5 * time.Second // that the process gets to say that the time is over
	maxOutput = 4 << 10
	maxSaid   = 300
)

// answer is what the process tells.
type answer struct {
	Taken bool   `json:"taken"`           // the service took the message
	Said  string `json:"said"`            // by the service
	Error string `json:"error,omitempty"` // why it is not sent
}

// Run sends a message by a program with arguments, in general this one with Command, and returns what the service said. An
// error says why it was not sent, or that nobody knows. It takes Within and some seconds at the most.
func Run(ctx context.Context, r Request, program string, args ...string) (said string, err error) {
	in, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("write the message: %w", err)
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(caller, r.within()+extra)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(in)
	var out, complaint bounded
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if r.CA != "" {
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+r.CA, "SSL_CERT_DIR=/nonexistent")
	}
	err = cmd.Run()
	var a answer
	switch {
	case caller.Err() != nil:
		return "", caller.Err()
	case ctx.Err() != nil:
		return "", r.silent()
	case err != nil:
		return "", fmt.Errorf("the process that sends has failed: %w: %s", err, text.Line(clean(r, complaint.String()), maxSaid))
	}
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		return "", fmt.Errorf("the process that sends has said nothing that can be read: %w", err)
	}
	if !a.Taken {
		return "", errors.New(cmp.Or(a.Error, "the process that sends has not said why"))
	}
	return a.Said, nil
}

func (r Request) within() time.Duration { return cmp.Or(r.Within, Within) }

// silent is the error where no answer has come. It does not say that the message was not sent: the answer may have been lost.
func (r Request) silent() error { return fmt.Errorf("no answer within %s", r.within()) }

// bounded keeps the beginning of what is written.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	_, err := b.Buffer.Write(p[:min(len(p), maxOutput-b.Len())])
	return len(p), err
}

// Serve reads a request, sends the message, and writes what became of it.
func Serve(in io.Reader, out io.Writer) error {
	confine()
	var r Request
	if err := json.NewDecoder(in).Decode(&r); err != nil {
		return fmt.Errorf("read the message: %w", err)
	}
	if !r.Until.IsZero() && time.Now().After(r.Until) {
		return json.NewEncoder(out).Encode(answer{Error: "this host has stood still, and it was too late to send it"})
	}
	type result struct {
		said string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		said, err := deliver(r)
		done <- result{said, err}
	}()
	var a answer
	select {
	case x := <-done:
		a.Taken, a.Said = x.err == nil, text.Line(clean(r, x.said), maxSaid)
		if x.err != nil {
			a.Error = text.Line(clean(r, x.err.Error()), maxSaid)
		}
	case <-time.After(r.within()):
		a.Error = r.silent().Error()
	}
	return json.NewEncoder(out).Encode(a)
}
