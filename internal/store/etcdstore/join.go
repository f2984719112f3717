package etcdstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"
)

// Join is what a member must know to start for the first time in a cluster that
// exists. Replace makes it; the new member keeps it beside its data.
type Join struct {
	Cluster string            `json:"cluster"` // id of the Holdfast cluster
	Name    string            `json:"name"`    // of the new member
	Initial map[string]string `json:"initial"` // member name to peer URL of all, the new one too
}

// InitialCluster is the members in etcd's form: NAME=URL,NAME=URL.
func (j Join) InitialCluster() string { return initialCluster(j.Initial) }

func initialCluster(members map[string]string) string {
	var out []string
	for name, u := range members {
		out = append(out, name+"="+u)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

const joinFile = "join.json"

// SaveJoin puts j into a data directory, so that every start of the member there
// joins, until it has joined. The directory is made when absent; it must hold no
// data of a member. A saved Join that is there is replaced.
func SaveJoin(dataDir string, j Join) error {
	if err := j.check(); err != nil {
		return fmt.Errorf("save how to join: %w", err)
	}
	if hasData(dataDir) {
		return fmt.Errorf("save how to join: %s: %w", dataDir, ErrNotEmpty)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return fmt.Errorf("save how to join: make data directory: %w", err)
	}
	// A member that lost its log in this directory joins as a new one.
	if err := os.Remove(filepath.Join(dataDir, formedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("save how to join: %w", err)
	}
	if err := writeJSON(filepath.Join(dataDir, joinFile), j); err != nil {
		return fmt.Errorf("save how to join: %w", err)
	}
	return nil
}

func (j Join) check() error {
	if j.Cluster == "" || j.Name == "" || j.Initial[j.Name] == "" {
		return fmt.Errorf("cluster %q, name %q and peer URL %q must not be empty", j.Cluster, j.Name, j.Initial[j.Name])
	}
	return nil
}

// joining applies what was saved, or what c says, to the configuration.
func (c MemberConfig) joining() (MemberConfig, error) {
	if c.Join != nil && !hasData(c.DataDir) {
		if err := SaveJoin(c.DataDir, *c.Join); err != nil {
			return c, err
		}
	}
	data, err := os.ReadFile(filepath.Join(c.DataDir, joinFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	var j Join
	if err == nil {
		err = json.Unmarshal(data, &j)
	}
	if err != nil {
		return c, fmt.Errorf("read how to join: %w", err)
	}
	if err := j.check(); err != nil {
		return c, fmt.Errorf("read how to join: %w", err)
	}
	if j.Cluster != c.Cluster || j.Name != c.Name {
		return c, fmt.Errorf("%w: %s says how member %s joins cluster %s, this is member %s of cluster %s",
			ErrForeignData, filepath.Join(c.DataDir, joinFile), j.Name, j.Cluster, c.Name, c.Cluster)
	}
	c.Initial, c.State = j.Initial, embed.ClusterStateFlagExisting
	if err := c.check(); err != nil {
		return c, fmt.Errorf("read how to join: %w", err)
	}
	return c, nil
}

// foreign refuses to form a cluster anew when one of the members that it should
// have runs another one already: after a restore on that host, a second cluster
// would come to life beside it. etcd itself only looks whether the cluster has
// this very member.
func (c MemberConfig) foreign(ctx context.Context) error {
	if hasData(c.DataDir) || c.State != embed.ClusterStateFlagNew || len(c.Initial) < 2 {
		return nil
	}
	urls, err := types.NewURLsMap(initialCluster(c.Initial))
	if err != nil {
		return fmt.Errorf("read initial: %w", err)
	}
	ours, err := membership.NewClusterFromURLsMap(zap.NewNop(), c.Cluster, urls)
	if err != nil {
		return fmt.Errorf("read initial: %w", err)
	}
	rt, err := c.peers()
	if err != nil {
		return err
	}
	for name, u := range c.Initial {
		if name == c.Name || ctx.Err() != nil {
			continue
		}
		// Who does not answer tells nothing: at a first start, nobody does.
		theirs, err := etcdserver.GetClusterFromRemotePeers(zap.NewNop(), []string{u}, rt)
		if err == nil && theirs.ID() != ours.ID() {
			return fmt.Errorf("%w: %s: member %s at %s runs cluster %s, of another making", ErrLost, c.DataDir, name, u, theirs.ID())
		}
	}
	return nil
}

// peers makes the transport to the members' peer ports.
func (c MemberConfig) peers() (http.RoundTripper, error) {
	info := transport.TLSInfo{}
	if c.TLS != nil {
		info = transport.TLSInfo{TrustedCAFile: c.TLS.CA, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key}
	}
	rt, err := transport.NewTimeoutTransport(info, peerDial, peerAnswer, peerAnswer)
	if err != nil {
		return nil, fmt.Errorf("load certificates to ask the peers: %w", err)
	}
	return rt, nil
}
