package migration

import (
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/host/libvirt"
)

// Operation is the job that libvirtd has under way with a guest. A migration that has been completed
// or cancelled is one until both sides have cleaned up: only then is it certain where the guest stays.
type Operation struct {
	Kind     golibvirt.DomainJobOperation
	Active   bool
	Incoming bool // a migration brings the guest here
	Progress Progress
}

// OperationOf asks for it. libvirtd has no figures of an incoming migration, and
// says so with an error of its own.
func OperationOf(l *golibvirt.Libvirt, dom golibvirt.Domain) (Operation, error) {
	kind, params, err := l.DomainGetJobStats(dom, 0)
	switch {
	case err == nil:
	case libvirt.Answered(err) && strings.Contains(err.Error(), "only on the source"): // of one of two codes, by version
		return Operation{Kind: golibvirt.DomainJobOperationStrMigrationIn, Active: true, Incoming: true}, nil
	case libvirt.HasCode(err, golibvirt.ErrOperationInvalid): // it is off
		return Operation{}, nil
	default:
		return Operation{}, err
	}
	if golibvirt.DomainJobType(kind) == golibvirt.DomainJobNone {
		return Operation{}, nil
	}
	op := Operation{Active: true, Progress: progressOf(params)}
	for _, p := range params {
		if p.Field == golibvirt.DomainJobOperationStr {
			op.Kind = golibvirt.DomainJobOperation(libvirt.Number(p))
		}
	}
	return op, nil
}

// Leaving tells that a migration takes the guest away.
func (o Operation) Leaving() bool {
	return o.Active && o.Kind == golibvirt.DomainJobOperationStrMigrationOut
}

// String tells people what holds the guest.
func (o Operation) String() string {
	if !o.Active {
		return ""
	}
	switch o.Kind {
	case golibvirt.DomainJobOperationStrStart:
		return "start"
	case golibvirt.DomainJobOperationStrSave:
		return "save"
	case golibvirt.DomainJobOperationStrRestore:
		return "restore"
	case golibvirt.DomainJobOperationStrMigrationIn, golibvirt.DomainJobOperationStrMigrationOut:
		return "migration"
	case golibvirt.DomainJobOperationStrSnapshot, golibvirt.DomainJobOperationStrSnapshotRevert, golibvirt.DomainJobOperationStrSnapshotDelete:
		return "snapshot"
	case golibvirt.DomainJobOperationStrDump:
		return "dump"
	case golibvirt.DomainJobOperationStrBackup:
		return "backup"
	}
	return "a job"
}

// Progress of a migration.
type Progress struct {
	Percent   int           // 0..100; goes backwards when the guest changes memory faster than it is sent
	Total     int64         // bytes
	Remaining int64         // bytes
	Rate      float64       // that are sent, MiB/s
	Dirty     float64       // that the guest changes, MiB/s
	Rounds    int           // through its memory
	Throttle  int           // by which auto-converge slows the guest down, percent
	Elapsed   time.Duration // since it began
	Downtime  time.Duration // that the guest stands still at the end: expected, or measured when it is over
}

// progressOf reads libvirt's figures of a migration.
func progressOf(params []golibvirt.TypedParam) Progress {
	var p Progress
	var dirty, page uint64
	for _, x := range params {
		n := libvirt.Number(x)
		switch x.Field {
		case golibvirt.DomainJobDataTotal:
			p.Total = int64(n)
		case golibvirt.DomainJobDataRemaining:
			p.Remaining = int64(n)
		case golibvirt.DomainJobMemoryBps:
			p.Rate = float64(n) / (1 << 20)
		case golibvirt.DomainJobMemoryDirtyRate: // pages
			dirty = n
		case golibvirt.DomainJobMemoryPageSize:
			page = n
		case golibvirt.DomainJobMemoryIteration:
			p.Rounds = int(n)
		case golibvirt.DomainJobAutoConvergeThrottle:
			p.Throttle = int(n)
		case golibvirt.DomainJobTimeElapsed:
			p.Elapsed = time.Duration(n) * time.Millisecond
		case golibvirt.DomainJobDowntime:
			p.Downtime = time.Duration(n) * time.Millisecond
		}
	}
	p.Dirty = float64(dirty) * float64(max(page, 4096)) / (1 << 20)
	if p.Total > 0 && p.Remaining <= p.Total {
		p.Percent = int(100 * (p.Total - p.Remaining) / p.Total)
	}
	return p
}
