package aid

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/support"
	"holdfast/internal/store"
)

// Bounds of one answer.
const (
	answerBytes  = 512 << 10 // of its lines
	maxText      = 200       // bytes of what is searched
	configWithin = time.Second
)

// logged has lines as they are told. Their secrets are removed once, until others are known.
type logged struct {
	mu    sync.Mutex
	known []support.Secret
	red   *support.Redactor // nil: not made yet
	told  map[int64]cluster.LogLine
}

// check refuses a query that can not be meant.
func check(q cluster.LogQuery) error {
	switch {
	case q.Most < 0 || q.Most > cluster.MaxLogLines:
		return fail.Errorf(fail.Invalid, "most: value %d: want 1 to %d lines", q.Most, cluster.MaxLogLines)
	case q.Least != "" && !slices.Contains(cluster.LogLevels, q.Least):
		return fail.Errorf(fail.Invalid, "least: value %.70q: want %s", q.Least, strings.Join(cluster.LogLevels, ", "))
	case len(q.Text) > maxText:
		return fail.Errorf(fail.Invalid, "text: %d bytes: want at most %d", len(q.Text), maxText)
	case q.After < 0:
		return fail.Errorf(fail.Invalid, "after: value %d: want the number of a line, or 0", q.After)
	}
	return nil
}

// HostLog tells lines of the log of a host's agent.
func (s *Service) HostLog(ctx context.Context, q cluster.LogQuery) (cluster.HostLog, error) {
	if err := check(q); err != nil {
		return cluster.HostLog{}, err
	}
	if q.Host != "" && q.Host != s.Host {
		p, err := s.peer(q.Host)
		if err != nil {
			return cluster.HostLog{}, err
		}
		defer p.Close()
		return p.HostLog(ctx, q)
	}
	if s.Recent == nil {
		return cluster.HostLog{}, fail.Errorf(fail.Refused, "the agent of %s keeps no lines of its log", s.Host)
	}
	lines, last := s.Recent.all()
	return answer(s.Host, q, s.clean(ctx, lines), last), nil
}

// answer chooses lines.
func answer(host cluster.HostID, q cluster.LogQuery, lines []cluster.LogLine, last int64) cluster.HostLog {
	most := q.Most
	if most == 0 {
		most = cluster.DefaultLogLines
	}
	after := q.After
	if after > last { // of an agent whose clock was ahead
		after = 0
	}
	out := cluster.HostLog{Host: host, Next: last, Lines: []cluster.LogLine{}}
	if len(lines) > 0 {
		out.From = lines[0].Time
	}
	words, least, size := strings.Fields(strings.ToLower(q.Text)), slices.Index(cluster.LogLevels, q.Least), 0
	for _, l := range slices.Backward(lines) {
		switch {
		case l.Number <= after || !fits(l, least, words):
		case len(out.Lines) == most || size > answerBytes:
			out.Left++
		default:
			out.Lines = append(out.Lines, l)
			size += len(l.Text) + len(l.Fields)
		}
	}
	slices.Reverse(out.Lines)
	return out
}

// fits reports whether a line is of a level or above, or of none, and has all words.
func fits(l cluster.LogLine, least int, words []string) bool {
	if i := slices.Index(cluster.LogLevels, l.Level); i >= 0 && i < least {
		return false
	}
	text := strings.ToLower(l.Text + " " + l.Fields)
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// clean are the lines as they are told.
func (s *Service) clean(ctx context.Context, lines []line) []cluster.LogLine {
	known := s.secrets(ctx)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	if s.log.red == nil || !slices.Equal(known, s.log.known) {
		s.log.known, s.log.red, s.log.told = known, support.NewRedactor(known), nil
	}
	told, out := map[int64]cluster.LogLine{}, make([]cluster.LogLine, len(lines))
	for i, l := range lines {
		t, is := s.log.told[l.number]
		if !is {
			t = read(string(s.log.red.Pass([]byte(l.text))))
			t.Number = l.number
		}
		out[i], told[l.number] = t, t
	}
	s.log.told = told // without those that are not kept any more
	return out
}

// secrets are those of the files that the settings and the configuration refer to, as far as these are known.
func (s *Service) secrets(ctx context.Context) []support.Secret {
	files := s.Node.SecretFiles(s.File, "/")
	if s.Config != nil {
		ctx, cancel := context.WithTimeout(store.Stale(ctx), configWithin)
		defer cancel()
		rev, err := s.Config(ctx, 0)
		if err == nil {
			cfg, cerr := rev.Cluster()
			if err = cerr; err == nil {
				files = append(files, cfg.CredentialFiles()...)
			}
		}
		if err != nil {
			s.Log.Debug("the configuration is not known: of the log, only what looks like a secret is hidden", "err", err)
		}
	}
	known, trouble := support.SecretsOf(files...)
	for _, t := range trouble {
		s.Log.Debug("hide secrets of the log", "trouble", t)
	}
	return known
}

// read makes a line of JSON, as slog writes it, one that is told; another one stays as it is.
func read(text string) cluster.LogLine {
	var fields map[string]any
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		return cluster.LogLine{Text: text}
	}
	var l cluster.LogLine
	take := func(name string) string {
		v, _ := fields[name].(string)
		delete(fields, name)
		return v
	}
	if at, err := time.Parse(time.RFC3339Nano, take("time")); err == nil {
		l.Time = at.UTC()
	}
	l.Level, l.Text = take("level"), take("msg")
	var rest []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if fields[name] == "" || fields[name] == nil { // it tells nothing
			continue
		}
		rest = append(rest, name+"="+value(fields[name]))
	}
	l.Fields = strings.Join(rest, " ")
	return l
}

// value is a field's, in quotes where it has a space.
func value(v any) string {
	s, is := v.(string)
	if !is {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(b)
	}
	if strings.ContainsAny(s, " \"=\n\t") {
		return fmt.Sprintf("%q", s)
	}
	return s
}
