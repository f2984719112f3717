package text

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// TestPlain: what libraries say, mostly as they say it now, becomes plain words; what is plain stays.
func TestPlain(t *testing.T) {
	said := func(_ any, err error) string { return err.Error() }
	_, noDuration := time.ParseDuration("soon")
	_, noUnit := time.ParseDuration("5")
	_, noTime := time.Parse(time.RFC3339, "monday")
	_, noProgram := exec.LookPath("no-such-program")
	for in, want := range map[string]string{
		fmt.Errorf("list the hosts: %w",
			context.DeadlineExceeded).Error(): "list the hosts: not done in time",
		fmt.Errorf("list the hosts: %w",
			context.Canceled).Error(): "list the hosts: interrupted",
		fmt.Errorf("read /etc/x: %w",
			io.ErrUnexpectedEOF).Error(): "read /etc/x: it ended too early",
		fmt.Errorf("read the answer: %w; asked again",
			io.EOF).Error(): "read the answer: it ended too early; asked again",
		"renew: outcome unknown: keepalive ping failed to receive ACK within timeout": "renew: outcome " +
			"unknown: the other side does not answer",
		"renew: error reading from server: read tcp 10.98.1.12:34854->10.98.1.11:2379: i/o timeout": "renew: the connection broke: no answer in time",
		"ask: write tcp 10.98.1.12:34854->10.98.1.11:2379: connection reset by peer":                "ask: connection to 10.98.1.11:2379: connection reset by peer",
		"line 3: " + said(strconv.Atoi("x y")):                                                      `line 3: "x y" is no whole number`,
		"line 3: " + said(strconv.ParseUint("-1", 10,
			64)): `line 3: "-1" is no whole number`,
		"line 3: " + said(strconv.ParseFloat("a", 64)):                             `line 3: "a" is no number`,
		"line 3: " + said(strconv.ParseBool("ja")):                                 `line 3: "ja" is neither true nor false`,
		"line 3: " + said(strconv.ParseInt("99999999999999999999", 10, 64)):        `line 3: "99999999999999999999" is too large`,
		"wait: " + noDuration.Error():                                              `wait: "soon" is no duration such as 90s or 5m`,
		"wait: " + noUnit.Error():                                                  `wait: "5" is no duration such as 90s or 5m`,
		"began: " + noTime.Error():                                                 `began: "monday" is no time such as 2006-01-02T15:04:05Z`,
		"pack: " + noProgram.Error():                                               `pack: the program "no-such-program" is not installed`,
		"read what it says: " + json.Unmarshal([]byte("no"), new(int)).Error():     "read what it says: it is not JSON",
		"read what it says: " + json.Unmarshal([]byte("{"), new(struct{})).Error(): "read what it says: it is not JSON",
		"read what it says: " + json.Unmarshal([]byte(`{"a": {"b": 300}}`),
			new(struct{ A struct{ B uint8 } })).Error(): "read what it says: a value of JSON has another type than " +
			"it should have: number, in field A.B",
		"run it: fork/exec ./missing: no such file or directory": "run it: start " +
			"./missing: no such file or directory",
		"read what it says: " + json.Unmarshal([]byte(`"a"`),
			new(int)).Error(): "read what it says: a value of JSON has another type than it should have: string",
		"get hosts/: rpc error: code = Unavailable desc = error reading from server: EOF":            "get hosts/: the connection broke: it ended too early",
		"get hosts/: etcdserver: request timed out, possibly due to connection lost":                 "get hosts/: the store did not answer in time",
		"write want: rpc error: code = Unknown desc = etcdserver: mvcc: database space exceeded":     "write want: the store is full, its quota is used up",
		"dial tcp 192.0.2.1:22: i/o timeout":                                                         "dial tcp 192.0.2.1:22: no answer in time",
		"source: driver: bad connection":                                                             "source: the connection to the database was lost",
		"log in: ssh: unexpected message type 51 (expected one of [60])":                             "log in: the SSH server answers in a way that is not understood",
		"read /etc/x: permission denied":                                                             "read /etc/x: permission denied",
		"node1 has no EOFX and the word contexts":                                                    "node1 has no EOFX and the word contexts",
		"ask it: x509: certificate signed by unknown authority (possibly because of \"x509: a\")":    "ask it: the certificate was not signed by an authority that is trusted here",
		"call the agent: deadline_exceeded: context deadline exceeded":                               "call the agent: not done in time",
		"get https://h/: context deadline exceeded (Client.Timeout exceeded while awaiting headers)": "get https://h/: not done in time",
	} {
		if got := Plain(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if got := Plain(want); got != want {
			t.Errorf("%q, once more: %q", want, got)
		}
	}
}

// TestAlone: a text that names what was being done is none of a library alone.
func TestAlone(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF,
		errors.New("etcdserver: no leader"), errors.New("driver: bad connection")} {
		if s := err.Error(); !Alone(s) || Alone("list the hosts: "+s) || Plain(s) == s {
			t.Errorf("%q: alone %t, behind words %t, plain %q", s, Alone(s), Alone("list the hosts: "+s), Plain(s))
		}
	}
	if Alone("") || Alone("permission denied") {
		t.Error("plain words are taken for a library's")
	}
}
