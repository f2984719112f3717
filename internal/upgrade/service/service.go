package service

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/facts"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/reboot"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/upgrade/cache"
	"holdfast/internal/upgrade/survey"
)

// Cluster is what jobs need of the agent that keeps the management VM up.
type Cluster interface {
	// Coordinator tells whether this host coordinates: the key of the coordinator's
	// record, and the revision that says so.
	Coordinator() (term int64, key string, ok bool)
	// SetMaintenance says that a host takes no guests any more, or takes them again.
	SetMaintenance(ctx context.Context, user string, host cluster.HostID, on bool) error
	// Power asks that the management VM runs, or that it is shut down.
	Power(ctx context.Context, user string, run bool) error
	// Status returns what the agent knows.
	Status() cluster.Status
	// StoreStatus asks every member of the store.
	StoreStatus(ctx context.Context) (cluster.StoreStatus, error)
}

// Parts is what a Service is made of.
type Parts struct {
	Store   store.Store
	Cluster Cluster
	Name    string // of the cluster
	Host    cluster.HostID
	Dir     string // the agent's data directory
	Fleet   *guests.Fleet
	Log     *slog.Logger
	// Addresses finds those at which other hosts reach a guest of this host.
	Addresses func(ctx context.Context, uuid string) ([]netip.Addr, error)
	// Bridges tells whether bridges of this host can be pinned.
	Bridges func(ctx context.Context, names []string) []fact.Bridge
	// Seen gives what all hosts report; false: that is not read yet.
	Seen func() (map[cluster.HostID]report.Seen, bool)
	// Forgotten tells whether a name that is not in Seen is a forgotten host's.
	Forgotten func(cluster.HostID) bool
	// Dial prepares calls to the agent of another host, at what it reports as its API. Who is there is to be that host.
	Dial func(host cluster.HostID, api string) (Peer, error)

	Exe           string   // this program, absolute, and the arguments with which it is
	Helper        []string // the helper of package action/program
	RebootCommand []string // of this host; none: systemctl reboot
	BootIDFile    string
	Credentials   string // path of the file with answers to prompts; "": none
}

// Peer is the agent of another host.
type Peer interface {
	GetBundle(ctx context.Context, sha256 string, offset int64) (io.ReadCloser, int64, error)
	GatherFacts(ctx context.Context, w fact.Wanted) (fact.Facts, error)
	SendGuest(ctx context.Context, uuid, name string, to cluster.HostID, network string) error
	Close()
}

// Service is this host's part in upgrades, and what the API tells of them.
type Service struct {
	Parts
	cache    *cache.Cache
	stage    *cache.Stage
	survey   *survey.Survey
	reboot   *reboot.Host
	gatherer facts.Gatherer
	probed   probeState
	members  members
	guests   guestList
}

// New makes a Service; Run runs it.
func New(p Parts) (*Service, error) {
	s := &Service{Parts: p}
	s.cache = cache.New(filepath.Join(s.dir(), "bundles"), s.Log)
	s.stage = &cache.Stage{Cache: s.cache, Host: s.Host, Holders: s.holders, Fetch: s.fetch}
	s.survey = &survey.Survey{
		Host: s.Host, Hosts: s.refs, Facts: s.factsOf, Quorum: s.quorum, Now: time.Now,
		Inventory: func() (inventory.Inventory, error) {
			ctx, cancel := context.WithTimeout(context.Background(), stateRead)
			defer cancel()
			return s.reported(ctx)
		},
	}
	var err error
	s.reboot, err = reboot.New(reboot.Options{Command: s.RebootCommand, BootID: s.BootIDFile})
	return s, err
}

// Run follows upgrades until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { s.followRun(ctx) })
	loops.Go(func() { s.followMembers(ctx) })
	loops.Wait()
}

// Bundles are the SHA-256 of the bundles that this host has.
func (s *Service) Bundles() ([]string, error) { return s.cache.Have() }

// Probed is the upgrade whose guests are pinged; false: there is none.
func (s *Service) Probed() (string, bool) { return s.probed.run() }

// Agents are the states of the hosts' agents, with who votes in the store.
func (s *Service) Agents() map[cluster.HostID]job.HostState {
	seen, _ := s.Seen()
	return s.members.mark(report.Hosts(seen, time.Now()))
}
