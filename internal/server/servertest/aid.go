package servertest

import (
	"context"
	"io"
	"sync"

	"holdfast/internal/cluster"
)

// fence is what fence devices answer.
type fence struct {
	answers []cluster.FenceAnswer
	err     error
	asked   []string // by whom, and about whom
}

// SetFence sets what fence devices answer to a test, and its error.
func (f *Fake) SetFence(err error, answers ...cluster.FenceAnswer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fence.answers, f.fence.err = answers, err
}

// TestFence is as server.Cluster wants it; the host node2 asks.
func (f *Fake) TestFence(_ context.Context, user string, host cluster.HostID) (cluster.FenceTest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fence.asked = append(f.fence.asked, user+": "+string(host))
	return cluster.FenceTest{Host: host, By: "node2", Time: f.status.Time, Took: 1500e6, Answers: f.fence.answers}, f.fence.err
}

// FenceTests are those that were asked for: by whom, and about whom.
func (f *Fake) FenceTests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fence.asked
}

// Aid tells the same log of every host, and has the same archive.
type Aid struct {
	mu      sync.Mutex
	log     cluster.HostLog
	err     error
	archive []byte
	queries []cluster.LogQuery
}

// SetLog sets the log, and the error in its place.
func (a *Aid) SetLog(l cluster.HostLog, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.log, a.err = l, err
}

// SetArchive sets the archive of each host, and the error that comes after it.
func (a *Aid) SetArchive(b []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.archive, a.err = b, err
}

// HostLog is as server.Aid wants it.
func (a *Aid) HostLog(_ context.Context, q cluster.LogQuery) (cluster.HostLog, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queries = append(a.queries, q)
	return a.log, a.err
}

// Queries are those that were asked.
func (a *Aid) Queries() []cluster.LogQuery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queries
}

// Report is as server.Aid wants it.
func (a *Aid) Report(_ context.Context, _ cluster.HostID, _ int, to io.Writer) error {
	a.mu.Lock()
	b, err := a.archive, a.err
	a.mu.Unlock()
	if _, werr := to.Write(b); werr != nil {
		return werr
	}
	return err
}
