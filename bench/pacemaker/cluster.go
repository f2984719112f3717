package pacemaker

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"time"

	"holdfast/testbed/lab"
)

//go:embed files
var files embed.FS

// Limits of what the package waits for.
const (
	// formLimit is how long the first formation may take: Pacemaker elects its
	// first coordinator only after dc-deadtime, 20 s.
	formLimit = 2 * time.Minute
	// settleLimit is how long a cluster may take to be whole again.
	settleLimit = 3 * time.Minute
	// pollEvery is the time between two looks at the cluster.
	pollEvery = 250 * time.Millisecond
)

// Profile is how fast the cluster is set to be.
type Profile struct {
	Name string
	// Token is corosync's token timeout, whatever the number of hosts. Corosync
	// derives the rest: consensus 1.2 x token, knet's ping token/4 and its limit
	// token/2. 0 leaves everything at its default: 3 s and 650 ms per host beyond
	// two.
	Token time.Duration
	// Monitor is the interval at which the guest is looked at.
	Monitor time.Duration
	// SemiSync is how long a commit of the Database waits for the replica before it
	// goes on without. 0 is MariaDB's default, 10 s.
	SemiSync time.Duration
}

// Default is what Debian's packages and the agent's metadata give.
func Default() Profile { return Profile{Name: "default", Monitor: 10 * time.Second} }

// Tuned is what an experienced operator sets: a token of 1 s, a monitor of 1 s.
func Tuned() Profile { return Profile{Name: "tuned", Token: time.Second, Monitor: time.Second} }

// Resource agents for the guest.
const (
	// Minimal is an agent of ours: virsh create, destroy, domstate.
	Minimal = "minimal"
	// VirtualDomain is ocf:heartbeat:VirtualDomain of resource-agents.
	VirtualDomain = "VirtualDomain"
)

// Options describe a cluster.
type Options struct {
	// Lab is the laboratory. Daemons of the cluster are added; BMCs are switched
	// on; Agents must be off.
	Lab      lab.Options
	Profile  Profile // default Default()
	Work     Work    // Guest (default), VIP or Address
	Resource string  // for Guest: Minimal (default) or VirtualDomain
	Data     string  // for Database and Plain: a data directory, which h1 and h2 begin with
	Service  string  // for Database and Plain: a program, as a pair's member has it: start, stop and status
}

// Cluster is a Pacemaker cluster on its own laboratory.
type Cluster struct {
	lab     *lab.Lab
	work    work
	profile Profile
	options Options
}

// Missing lists the programs that the cluster needs and this machine does not
// have, beside lab.Missing.
func Missing() []string {
	var all []string
	for _, n := range [][2]string{
		{"/usr/sbin/corosync", "corosync"},
		{"/usr/sbin/pacemakerd", "pacemaker"},
		{"/usr/sbin/cibadmin", "pacemaker-cli-utils"},
		{"/usr/lib/ocf/resource.d/heartbeat/VirtualDomain", "resource-agents"},
		{"ipmitool", "ipmitool"},
		{"ipmi_sim", "openipmi"},
		{"bash", "bash"},
	} {
		if _, err := exec.LookPath(n[0]); err != nil {
			all = append(all, fmt.Sprintf("%s (apt-get install %s)", n[0], n[1]))
		}
	}
	return all
}

// Up makes a laboratory with a cluster in it and returns when its work runs
// and the cluster is settled. When it can not, it removes what it began.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if m := Missing(); len(m) > 0 {
		return nil, fmt.Errorf("start pacemaker: missing: %s", strings.Join(m, ", "))
	}
	if o.Lab.Agents {
		return nil, errors.New("start pacemaker: the laboratory must not run Holdfast's agents")
	}
	if _, err := lab.Open(o.Lab.Dir); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("start pacemaker: %s: want a folder without a laboratory", o.Lab.Dir), err)
	}
	if o.Profile == (Profile{}) {
		o.Profile = Default()
	}
	if o.Profile.Monitor <= 0 {
		return nil, fmt.Errorf("start pacemaker: monitor interval %s: want more than 0", o.Profile.Monitor)
	}
	if o.Resource == "" {
		o.Resource = Minimal
	}
	daemons, err := daemons()
	if err != nil {
		return nil, fmt.Errorf("start pacemaker: %w", err)
	}
	if o.Work == Plain {
		daemons = append(daemons, DatabaseDaemon())
	}
	o.Lab.Daemons = append(daemons, o.Lab.Daemons...)
	o.Lab.BMCs = true
	l, err := lab.Up(ctx, o.Lab)
	if err != nil {
		return nil, fmt.Errorf("start pacemaker: %w", err)
	}
	c := &Cluster{lab: l, profile: o.Profile, options: o}
	if c.work, err = newWork(o.Work, l); err == nil {
		err = c.start(ctx, o)
	}
	if err != nil {
		err = fmt.Errorf("start pacemaker: %w", err)
		// The caller's context may be what ended the start.
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// daemons are what every host runs. They wait until its files are there.
func daemons() ([]lab.Daemon, error) {
	script, err := files.ReadFile("files/start.sh")
	if err != nil {
		return nil, err
	}
	var all []lab.Daemon
	for _, name := range []string{"corosync", "pacemaker"} {
		all = append(all, lab.Daemon{Name: name, Argv: []string{"/bin/sh", "-c", string(script), name, name}})
	}
	return all, nil
}

// start writes the hosts' files, forms the cluster and gives it the resources.
func (c *Cluster) start(ctx context.Context, o Options) error {
	for _, h := range c.lab.Hosts() {
		if err := errors.Join(c.prepareDatabase(ctx, h), c.write(h)); err != nil {
			return err
		}
	}
	err := c.until(ctx, formLimit, "the cluster to form", func(ctx context.Context) (string, error) {
		st, err := c.status(ctx)
		if err != nil {
			return "", err
		}
		return st.missing(c.lab.Hosts()), nil
	})
	if err != nil {
		return err
	}
	if err := c.configure(ctx, o); err != nil {
		return err
	}
	return c.Settle(ctx)
}

// Lab is the cluster's laboratory.
func (c *Cluster) Lab() *lab.Lab { return c.lab }

// Down removes everything.
func (c *Cluster) Down(ctx context.Context) error { return c.lab.Down(ctx) }

// Settle waits until all hosts are in the cluster, its work answers, nothing
// failed is remembered and nothing is under way; at most 3 minutes.
func (c *Cluster) Settle(ctx context.Context) error {
	return c.until(ctx, settleLimit, "the cluster to settle", func(ctx context.Context) (string, error) {
		st, err := c.status(ctx)
		if err != nil {
			return "", err
		}
		if why := st.unsettled(c.lab.Hosts(), c.work.ids()); why != "" {
			return why, c.forget(ctx, st)
		}
		if _, _, err := c.work.answer(ctx); err != nil {
			return err.Error(), nil
		}
		// Asked last: it returns when the coordinator has nothing left to do.
		_, err = c.lab.Exec(ctx, st.from, "crm_resource", "--wait", "--timeout=20")
		if err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
}

// forget clears what the cluster remembers of failures, if it does.
func (c *Cluster) forget(ctx context.Context, st status) error {
	if len(st.Failures) == 0 {
		return nil
	}
	_, err := c.lab.Exec(ctx, st.from, "crm_resource", "--cleanup")
	return err
}

// Active is the host that runs the guest, or serves the address, by the
// cluster's own word.
func (c *Cluster) Active(ctx context.Context) (string, error) {
	st, err := c.status(ctx)
	if err != nil {
		return "", err
	}
	host, ok := st.active(c.work.ids()[0])
	if !ok {
		return "", errors.New("find the active host: there is none")
	}
	return host, nil
}

// until looks again and again, until it says nothing, and fails with what it
// said last. A look that fails is repeated: hosts come and go.
func (c *Cluster) until(ctx context.Context, limit time.Duration, what string, look func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		why, err := look(ctx)
		if why == "" && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w: %s", what, errors.Join(ctx.Err(), err), why)
		case <-t.C:
		}
	}
}
