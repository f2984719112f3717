package pools

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"libvirt.org/go/libvirtxml"
)

// Look finds out, during one listing of guests, where the content of their disks is. What is the same
// for all guests is looked at once.
type Look struct {
	ctx   context.Context
	pools *Pools

	mounts onceErr[[]*mountinfo.Info]
	known  onceErr[map[string]Pool]
}

// Look begins a listing.
func (h *Pools) Look(ctx context.Context) *Look { return &Look{ctx: ctx, pools: h} }

// onceErr holds a value that is made when it is first needed.
type onceErr[T any] struct {
	once sync.Once
	v    T
	err  error
}

func (o *onceErr[T]) get(f func() (T, error)) (T, error) {
	o.once.Do(func() { o.v, o.err = f() })
	return o.v, o.err
}

// Source is where the content of a disk is.
type Source struct {
	Kind   string // file, block, network, volume, dir...; "" for an empty drive
	Name   string // path, POOL/VOLUME, or PROTOCOL:NAME
	FS     string // type of the file system, or protocol; of a volume the pool's kind
	Shared bool   // other hosts have it, too
	Why    string // it can not be used on another host, for people
}

// At looks at where a disk's content is.
func (l *Look) At(s *libvirtxml.DomainDiskSource) Source {
	switch {
	case s == nil:
		return Source{Shared: true} // an empty drive
	case s.File != nil && s.File.File == "":
		return Source{Kind: "file", Shared: true}
	case s.File != nil:
		return l.file(s.File.File)
	case s.Block != nil:
		return l.block(s.Block.Dev)
	case s.Network != nil:
		return networkPlace(s.Network)
	case s.Volume != nil:
		return l.volume(s.Volume.Pool, s.Volume.Volume)
	case s.Dir != nil:
		return Source{Kind: "dir", Name: s.Dir.Dir, Why: "directory " + s.Dir.Dir + " of this host as a disk"}
	case s.NVME != nil:
		return Source{Kind: "nvme", Why: "NVMe device of this host"}
	case s.VHostUser != nil:
		return Source{Kind: "vhostuser", Why: "served by a process of this host (vhost-user)"}
	case s.VHostVDPA != nil:
		return Source{Kind: "vhostvdpa", Name: s.VHostVDPA.Dev, Why: "device " + s.VHostVDPA.Dev + " of this host (vDPA)"}
	}
	return Source{Why: "of a kind that is not known"}
}

func (l *Look) file(path string) Source {
	mounts, err := l.mounts.get(l.pools.storage.mounts)
	p := Source{Kind: "file", Name: path}
	if err == nil {
		p.FS, p.Shared, err = l.pools.storage.file(l.ctx, mounts, path)
	}
	switch {
	case err != nil:
		p.Why = fmt.Sprintf("%s: it is not known whether other hosts have it: %v", path, err)
	case !p.Shared:
		p.Why = fmt.Sprintf("%s is on this host only (%s)", path, p.FS)
	}
	return p
}

func (l *Look) block(path string) Source {
	p := Source{Kind: "block", Name: path, FS: "block"}
	dev, err := l.pools.storage.device(path)
	p.Shared = err == nil && dev.Shared
	switch {
	case err != nil:
		p.Why = fmt.Sprintf("%s: it is not known whether other hosts have it: %v", path, err)
	case !p.Shared:
		p.Why = fmt.Sprintf("%s is a device of this host only", path)
	}
	return p
}

func networkPlace(n *libvirtxml.DomainDiskSourceNetwork) Source {
	p := Source{Kind: "network", Name: n.Protocol + ":" + n.Name, FS: n.Protocol, Shared: true}
	for _, h := range n.Hosts {
		if h.Transport == "unix" || h.Name == "localhost" || strings.HasPrefix(h.Name, "127.") || h.Name == "::1" {
			p.Shared = false
			p.Why = fmt.Sprintf("%s is served by this host", p.Name)
		}
	}
	return p
}

func (l *Look) volume(pool, volume string) Source {
	p := Source{Kind: "volume", Name: pool + "/" + volume}
	pools, err := l.known.get(func() (map[string]Pool, error) {
		list, err := l.pools.List(l.ctx)
		all := map[string]Pool{}
		for _, x := range list {
			all[x.Name] = x
		}
		return all, err
	})
	known, ok := pools[pool]
	p.FS, p.Shared = known.Kind, known.Shared
	switch {
	case err != nil:
		p.Why = fmt.Sprintf("volume %s: %v", p.Name, err)
	case !ok:
		p.Why = fmt.Sprintf("volume %s: no such pool", p.Name)
	case !p.Shared:
		p.Why = fmt.Sprintf("volume %s is on this host only (pool of kind %s)", p.Name, known.Kind)
	}
	return p
}
