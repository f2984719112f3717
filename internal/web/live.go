package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/web/layout"
)

// live follows the status for all pages that are open: one stream for all viewers, and a part of a page is made once for
// all who see the same.
type live struct {
	api *api.Client
	log *slog.Logger

	mu      sync.Mutex
	known   bool
	status  cluster.Status
	events  []cluster.Event  // oldest first
	next    int64            // after which the next ones come
	asked   time.Time        // when they were asked for
	viewers int              // of pages that are open
	version int              // grows with each change
	changed chan struct{}    // closed at the next one
	parts   map[string]*part // the live parts of pages, of this version, by what they are of and for whom
}

const (
	followAgain = time.Second
	eventsKept  = 1000 // the most that one call gives
	newest      = -1   // in place of what they come after
	eventsTime  = 2 * time.Second
	partTime    = 5 * time.Second // for what a page asks beside the status
	maxParts    = 256             // at once; what is beyond is made for each who looks
)

func newLive(c *api.Client, log *slog.Logger) *live {
	return &live{api: c, log: log, changed: make(chan struct{}), parts: map[string]*part{}}
}

// run follows the status until ctx ends.
func (l *live) run(ctx context.Context) {
	for ctx.Err() == nil {
		for s, err := range l.api.WatchStatus(ctx) {
			if err != nil {
				l.log.Debug("console: the status is followed again", "err", err)
				break
			}
			l.take(ctx, s)
		}
		clock.Sleep(ctx, followAgain)
	}
}

// take takes a status in, with the events that belong to it while somebody looks.
func (l *live) take(ctx context.Context, s cluster.Status) {
	l.mu.Lock()
	looked := l.viewers > 0
	l.mu.Unlock()
	if looked {
		l.ask(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.status = true, s
	l.tell()
}

// tell has all pages look again. The caller holds mu.
func (l *live) tell() {
	l.version++
	clear(l.parts)
	close(l.changed)
	l.changed = make(chan struct{})
}

// ask reads the events that are new. Where that fails, those stay that were known: the page says that there is no quorum.
func (l *live) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, eventsTime)
	defer cancel()
	l.mu.Lock()
	known, after, begun := l.events, l.next, time.Now()
	l.mu.Unlock()
	if after == 0 {
		after = newest
	}
	events, next, err := l.api.Events(ctx, after, eventsKept)
	if err == nil && next < after { // the store was restored, and counts anew
		known = nil
		events, next, err = l.api.Events(ctx, newest, eventsKept)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.log.Debug("console: the events are not known", "err", err)
	case l.asked.After(begun): // by another one meanwhile
	default:
		all := slices.Concat(known, events)
		l.events, l.next, l.asked = all[max(0, len(all)-eventsKept):], next, begun
	}
}

// look sees to it that the events are new, for a page that nobody has open yet.
func (l *live) look(ctx context.Context) {
	l.mu.Lock()
	old := time.Since(l.asked) > layout.BeatEvery
	l.mu.Unlock()
	if old {
		l.ask(ctx)
	}
}

// addViewers counts pages that are open.
func (l *live) addViewers(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.viewers += by
}

// now is the status as it was last told.
func (l *live) now() (s cluster.Status, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, l.known
}

// fill gives a view what is known, and the channel that is closed when there is more.
func (l *live) fill(v *view) (changed <-chan struct{}, version int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.Status, v.Events = l.status, l.events
	return l.changed, l.version
}

// errPart ends the streams of those who wait for a part that panicked: they ask again.
var errPart = errors.New("the part of a page was not made")

// errLeft ends the streams of who was logged out, or may more or less than before.
var errLeft = errors.New("the rights of who looks have changed")

// part is the live part of a page, made once.
type part struct {
	once sync.Once
	text string
	err  error
}

// part makes the live part of a page, once for all who have the same rights and language.
func (l *live) part(ctx context.Context, p *page, v *view, version int) (string, error) {
	key := fmt.Sprintf("%s %s %s", v.At, v.Lang, v.User.Role)
	l.mu.Lock()
	x := l.parts[key]
	if x == nil {
		x = &part{}
		if l.version == version && len(l.parts) < maxParts {
			l.parts[key] = x
		}
	}
	l.mu.Unlock()
	x.once.Do(func() {
		x.err = errPart                                                          // unless it comes to its end
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partTime) // who began may go, and others wait
		defer cancel()
		var b strings.Builder
		body, err := p.make(ctx, v)
		if err != nil {
			v.Fail(err)
			body = layout.Said(&v.View)
		}
		x.err = body.Render(ctx, &b)
		x.text = b.String()
	})
	return x.text, x.err
}

// stream sends the live part of a page whenever it changes, and a sign of life in between. It ends with the session.
func (c *Console) stream(p *page, w http.ResponseWriter, r *http.Request, v *view) {
	c.live.fill(v) // what the cluster is decides as well
	if err := p.may(v); err != nil {
		c.fails(w, r, err)
		return
	}
	c.live.look(r.Context())
	c.live.addViewers(1)
	defer c.live.addViewers(-1)
	layout.Stream(w, r, func() (string, <-chan struct{}, error) {
		if u, is := c.user(r.Context()); !is || u.Role != v.User.Role {
			return "", nil, errLeft // the page asks again, and is told what has become of it
		}
		changed, version := c.live.fill(v)
		now, err := c.live.part(r.Context(), p, v, version)
		return now, changed, err
	})
}
