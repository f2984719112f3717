package aid

import (
	"context"
	"io"
	"log/slog"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// Peer is the agent of another host.
type Peer interface {
	HostLog(ctx context.Context, q cluster.LogQuery) (cluster.HostLog, error)
	Report(ctx context.Context, host cluster.HostID, days int, to io.Writer) error
	Close()
}

// Service answers for this host, and asks the others. All fields are set before it is used.
type Service struct {
	Host   cluster.HostID
	Node   config.Node
	File   string // of these settings
	Recent *Ring  // nil: nothing of the log is kept
	Exe    string // this program
	Socket string // of this agent
	// Config reads the cluster's configuration in force, number 0; nil: it is not asked for.
	Config func(ctx context.Context, number int) (config.Revision, error)
	// Peer prepares calls to the agent of another host; nil: none can be reached.
	Peer func(cluster.HostID) (Peer, error)
	Log  *slog.Logger

	log    logged
	making sync.Mutex // an archive
}

// peer is the agent of another host.
func (s *Service) peer(host cluster.HostID) (Peer, error) {
	if s.Peer == nil {
		return nil, fail.Errorf(fail.Refused, "%s does not reach the agents of other hosts", s.Host).
			With("ask that host itself: open its console, or run the command there")
	}
	return s.Peer(host)
}
