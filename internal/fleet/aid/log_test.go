package aid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// logs is a service whose log has lines.
func logs(t *testing.T, file string, write func(*slog.Logger)) *Service {
	t.Helper()
	r := NewRing()
	write(slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})))
	return &Service{Host: "h1", Recent: r, Log: slog.New(slog.DiscardHandler), File: file}
}

func texts(l cluster.HostLog) (out []string) {
	for _, x := range l.Lines {
		out = append(out, strings.TrimSpace(x.Level+" "+x.Text+" "+x.Fields))
	}
	return out
}

// TestHostLog: lines are found by level, words and number, the newest of them.
func TestHostLog(t *testing.T) {
	s := logs(t, "", func(l *slog.Logger) {
		l.Debug("looked", "host", "h2")
		l.Info("api is served", "at", "192.0.2.1:7443", "took", 3*time.Second, "why", "")
		l.Warn("a member is silent", "host", "h2", "err", errors.New("no answer"))
		l.Error("it is lost", slog.Group("of", "host", "h3"))
	})
	fmt.Fprintln(s.Recent, "panic: of no form <script>")
	for _, c := range []struct {
		q    cluster.LogQuery
		want []string
	}{
		{cluster.LogQuery{}, []string{"DEBUG looked host=h2", "INFO api is served at=192.0.2.1:7443 took=3000000000",
			`WARN a member is silent err="no answer" host=h2`, `ERROR it is lost of={"host":"h3"}`, "panic: of no form <script>"}},
		{cluster.LogQuery{Least: "WARN", Text: "H2 answer"}, []string{`WARN a member is silent err="no answer" host=h2`}},
		{cluster.LogQuery{Host: "h1", Most: 1}, []string{"panic: of no form <script>"}},
		{cluster.LogQuery{Text: "nothing has this"}, nil},
	} {
		got, err := s.HostLog(t.Context(), c.q)
		if try.Must(t, err); !slices.Equal(texts(got), c.want) || got.From.IsZero() || got.Host != "h1" {
			t.Errorf("%+v: %q, want %q", c.q, texts(got), c.want)
		}
	}
	all, err := s.HostLog(t.Context(), cluster.LogQuery{Most: 2})
	if try.Must(t, err); all.Left != 3 || len(all.Lines) != 2 {
		t.Errorf("%+v", all)
	}
	fmt.Fprintln(s.Recent, "one more")
	for after, want := range map[int64]int{all.Next: 1, all.Next + 1: 0, all.Next + 1e9: 6} {
		if got, err := s.HostLog(t.Context(), cluster.LogQuery{After: after}); err != nil || len(got.Lines) != want {
			t.Errorf("after %d: %v, %v", after-all.Next, texts(got), err)
		}
	}
	for _, q := range []cluster.LogQuery{{Most: -1}, {Most: 501}, {Least: "loud"}, {Text: strings.Repeat("x", 201)}, {After: -1}} {
		var e *fail.Error
		if _, err := s.HostLog(t.Context(), q); !errors.As(err, &e) || e.Kind != fail.Invalid || !strings.Contains(e.Error(), "want") {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestNoSecretOfALog: what the configuration refers to is hidden, and what looks like a secret; a search finds out nothing.
func TestNoSecretOfALog(t *testing.T) {
	dir := t.TempDir()
	pass := filepath.Join(dir, "bmc")
	try.Must(t, os.WriteFile(pass, []byte("tr0ub4dor\n"), 0o600))
	s := logs(t, "", func(l *slog.Logger) {
		l.Info("asked by tr0ub4dor of the device")
		l.Warn("refused", "cmd", "ipmitool -U root -P hunter2hunter2 power status", "password", "opensesame", "host", "h7")
	})
	s.Config = func(context.Context, int) (config.Revision, error) {
		return config.Revision{Config: []byte(`{"Fencing":{"h2":{"Devices":[{"Type":"ipmi","Address":"192.0.2.9","User":"u",` +
			`"Credential":"file:` + pass + `"}]}}}`)}, nil
	}
	got, err := s.HostLog(t.Context(), cluster.LogQuery{})
	try.Must(t, err)
	said := strings.Join(texts(got), "\n")
	for _, secret := range []string{"tr0ub4dor", "hunter2", "opensesame"} {
		if strings.Contains(said, secret) {
			t.Errorf("%s is told: %s", secret, said)
		}
		if got, err := s.HostLog(t.Context(), cluster.LogQuery{Text: secret}); err != nil || len(got.Lines) != 0 {
			t.Errorf("a search for %s finds %q, %v", secret, texts(got), err)
		}
	}
	if !strings.Contains(said, "asked by [removed]") || !strings.Contains(said, "h7") {
		t.Error(said)
	}
	try.Must(t, os.WriteFile(pass, []byte("asked by\n"), 0o600)) // another secret, of lines that were told already
	if got, err := s.HostLog(t.Context(), cluster.LogQuery{}); err != nil || strings.Contains(texts(got)[0], "asked by") {
		t.Errorf("%q, %v", texts(got), err)
	}
	s.Config = func(context.Context, int) (config.Revision, error) { return config.Revision{}, errors.New("no quorum") }
	if got, err := s.HostLog(t.Context(), cluster.LogQuery{}); err != nil || strings.Contains(texts(got)[1], "opensesame") {
		t.Errorf("without the configuration: %q, %v", texts(got), err)
	}
}

// other is another host's agent.
type other struct {
	*Service
	closed *int
}

func (o other) Close() { *o.closed++ }

// TestTheLogOfAnotherHost is asked of its agent; one that is not reached is named, with what to do.
func TestTheLogOfAnotherHost(t *testing.T) {
	s := logs(t, "", func(l *slog.Logger) { l.Info("mine") })
	var e *fail.Error
	if _, err := s.HostLog(t.Context(), cluster.LogQuery{Host: "h2"}); !errors.As(err, &e) || e.Kind != fail.Refused || e.Remedy == "" {
		t.Errorf("%v", err)
	}
	theirs := logs(t, "", func(l *slog.Logger) { l.Info("theirs") })
	theirs.Host = "h2"
	closed := 0
	s.Peer = func(h cluster.HostID) (Peer, error) {
		if h != "h2" {
			return nil, fail.Errorf(fail.Invalid, "host %q: there is none", h)
		}
		return other{theirs, &closed}, nil
	}
	got, err := s.HostLog(t.Context(), cluster.LogQuery{Host: "h2"})
	if err != nil || got.Host != "h2" || len(got.Lines) != 1 || got.Lines[0].Text != "theirs" || closed != 1 {
		t.Errorf("%+v, %v, closed %d times", got, err, closed)
	}
	if _, err := s.HostLog(t.Context(), cluster.LogQuery{Host: "h9"}); err == nil {
		t.Error("a host that there is not has a log")
	}
	if _, err := (&Service{Host: "h1", Log: s.Log}).HostLog(t.Context(), cluster.LogQuery{}); !errors.As(err, &e) || e.Kind != fail.Refused {
		t.Errorf("without lines: %v", err)
	}
	if err := s.Report(t.Context(), "h9", 7, io.Discard); err == nil {
		t.Error("a host that there is not has an archive")
	}
}

// BenchmarkFirstAnswer is of a full ring, none of whose lines was told before.
func BenchmarkFirstAnswer(b *testing.B) {
	r := NewRing()
	log := slog.New(slog.NewJSONHandler(r, nil))
	for i := range ringLines {
		log.Info("guest state", "host", "h2", "state", "running", "epoch", i, "took", 3*time.Second, "err", "no answer from 192.0.2.7")
	}
	for b.Loop() {
		s := &Service{Host: "h1", Recent: r, Log: slog.New(slog.DiscardHandler)}
		if _, err := s.HostLog(b.Context(), cluster.LogQuery{}); err != nil {
			b.Fatal(err)
		}
	}
}
