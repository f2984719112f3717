package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/fleet/gather"
	"holdfast/internal/host/action"
	"holdfast/internal/host/action/program"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/steps"
	"holdfast/internal/upgrade/survey"
)

// quorumWithin bounds the question how the store's members are.
const quorumWithin = 10 * time.Second

// dir is where this host keeps what belongs to upgrades.
func (s *Service) dir() string { return filepath.Join(s.Dir, "upgrade") }

// packages is where packages of the appctl layout are worked on. It is no part of Dir, into
// which only root may look: the engine's accounts read it.
func (s *Service) packages() string { return s.Dir + "-packages" }

// removeBundle removes a bundle, and what was worked on of it.
func (s *Service) removeBundle(sha string) error {
	return errors.Join(s.cache.Remove(sha), os.RemoveAll(filepath.Join(s.packages(), sha)))
}

// tidyBundles removes what nobody uses of bundles, see steps.Tidy.
func (s *Service) tidyBundles(keep string, staged bool) error {
	errs := []error{s.cache.Tidy(keep, staged)}
	list, err := os.ReadDir(s.packages())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range list {
		if e.Name() != keep || !staged {
			errs = append(errs, os.RemoveAll(filepath.Join(s.packages(), e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Executors are what this host can do for upgrades, by the kind of step; pins and losses are those of other tools.
func (s *Service) Executors(pins, losses engine.Executor) map[string]engine.Executor {
	helper := program.Helper{Exe: s.Exe, Args: s.Helper}
	backups := steps.Backups{Dir: s.dir(), Host: s.Host, Providers: steps.Providers(s.Log)}
	programs := &steps.Switch{Helper: helper, Dir: s.dir(), Host: s.Host}
	power := steps.VMPower{
		Power: func(ctx context.Context, run bool) error { return s.Cluster.Power(ctx, "job", run) },
		Powered: func(context.Context) (bool, error) {
			st := s.Cluster.Status()
			switch {
			case !st.Connected:
				return false, errors.New("this agent does not reach the store")
			case st.Owner.State == cluster.Running:
				return true, nil
			case st.Owner.State == cluster.Released:
				return false, nil
			}
			return false, fmt.Errorf("the management VM is %s", st.Owner.State)
		},
	}
	pools := filepath.Join(s.dir(), "pools")
	return map[string]engine.Executor{
		upgrade.KindCheck: &survey.Check{
			Survey: s.survey, Manifest: s.manifest, Run: s.runOf, Verify: backups.VerifyBackup, Reports: filepath.Join(s.dir(), "reports"),
		},
		upgrade.KindStage:   s.stage,
		upgrade.KindHAOff:   programs,
		upgrade.KindHAOn:    programs,
		upgrade.KindAppsOff: programs,
		upgrade.KindAppsOn:  programs,
		upgrade.KindAction: &steps.Action{
			Bundles: s.cache, Host: action.Host{Helper: helper, Packages: s.packages()}, Dir: s.dir(),
			Credentials: s.Credentials, AllHosts: allHosts{s},
		},
		upgrade.KindStorageDetach: &steps.StorageDetach{Host: s.Fleet.Pools(), Dir: pools},
		upgrade.KindStorageAttach: &steps.StorageAttach{Host: s.Fleet.Pools(), Dir: pools},
		upgrade.KindBackup:        &steps.Backup{Backups: backups},
		upgrade.KindRestore:       &steps.Restore{Backups: backups},
		upgrade.KindReboot: &steps.Reboot{
			Host: s.reboot, Guests: s.running, NextKernel: s.nextKernel, Quorum: s.others, File: filepath.Join(s.dir(), "reboot.json"),
		},
		upgrade.KindVerify: &steps.Verify{
			Boot: s.reboot.Boot, Record: s.record, Kernel: func(context.Context) (string,
				error) {
				return gather.Kernel(), nil
			}, Pools: s.Fleet.Pools().List, Dir: pools,
		},
		upgrade.KindVMStop:     &steps.VMStop{Host: s.Fleet, Mgmt: power, Dir: filepath.Join(s.dir(), "guests")},
		upgrade.KindVMStart:    &steps.VMStart{Host: s.Fleet, Mgmt: power, Dir: filepath.Join(s.dir(), "guests")},
		upgrade.KindPairSwitch: programs,
		upgrade.KindPairStart:  programs,
		upgrade.KindPairStop:   programs,
		upgrade.KindPin:        pins,
		upgrade.KindLosses:     losses,
		upgrade.KindO2CB:       &steps.O2CB{},
		upgrade.KindCommit:     &Commit{Store: s.Store},
		upgrade.KindCleanup:    &steps.Cleanup{Backups: backups, Have: s.cache.Have, Remove: s.removeBundle},
		upgrade.KindTidy:       &steps.Tidy{Backups: backups, Bundles: s.tidyBundles},
	}
}

// BringGuest has another host move a guest here, over the network (a CIDR, "" for any).
func (s *Service) BringGuest(ctx context.Context, from cluster.HostID, m evacuate.Move, network string) error {
	c, err := s.agentOf(from)
	if err != nil {
		return fmt.Errorf("ask host %s to send %s: %w", from, m.VM, err)
	}
	defer c.Close()
	return c.SendGuest(ctx, m.UUID, m.VM, s.Host, network)
}

// running are the names of the guests that have a process on this host.
func (s *Service) running(ctx context.Context) ([]string, error) {
	vms, err := s.Fleet.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, vm := range vms {
		if vm.State != guests.VMOff {
			out = append(out, vm.Name)
		}
	}
	return out, nil
}

// nextKernel is the release that a reboot would start.
func (s *Service) nextKernel(ctx context.Context) (string, error) {
	f := s.gatherer.Gather(ctx, fact.Request{Host: s.Host})
	if why := f.Unknown["kernel"]; why != "" {
		return "", errors.New(why)
	}
	return f.Kernel.Next, nil
}

// record reads the journal's entry of a step.
func (s *Service) record(ctx context.Context, id, step string) (job.Record, bool, error) {
	r, err := engine.Record(ctx, s.Store, id, step)
	return r, r.State != job.Pending, err
}

// quorum tells how the voters of the store are.
func (s *Service) quorum(ctx context.Context) (check.Quorum, error) {
	voters, healthy, _, err := s.voters(ctx, "")
	return check.Quorum{Voters: voters, Healthy: healthy}, err
}

// others counts the voters of the store, and those that answer beside this host.
func (s *Service) others(ctx context.Context) (voters, healthy int, member bool, err error) {
	return s.voters(ctx, s.Host)
}

func (s *Service) voters(ctx context.Context, without cluster.HostID) (voters, healthy int, there bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, quorumWithin)
	defer cancel()
	st, err := s.Cluster.StoreStatus(ctx)
	for _, m := range st.Members {
		if m.Learner {
			continue
		}
		voters++
		switch {
		case m.Name == string(without):
			there = true
		case m.Reachable:
			healthy++
		}
	}
	return voters, healthy, there, err
}

// refs are the hosts that can be asked for facts.
func (s *Service) refs() []survey.HostRef {
	seen, _ := s.Seen()
	now := time.Now()
	var out []survey.HostRef
	for name, h := range seen {
		out = append(out, survey.HostRef{Name: name, API: h.API, Up: h.Up(now)})
	}
	slices.SortFunc(out, func(a, b survey.HostRef) int { return inventory.Compare(string(a.Name), string(b.Name)) })
	return out
}

// reported is the inventory as it is now, for the run that is under way.
func (s *Service) reported(ctx context.Context) (inventory.Inventory, error) {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return inventory.Inventory{}, err
	}
	inv, _, err := s.inventory(ctx, st, nil, st.Network, st.Bundle.Name, st.version())
	return inv, err
}

// runOf is a job with what reports tell of it.
func (s *Service) runOf(ctx context.Context, id string) (survey.Run, error) {
	j, err := readJournal(ctx, s.Store, id)
	if err != nil {
		return survey.Run{}, err
	}
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return survey.Run{}, err
	}
	return s.runWith(ctx, j, st)
}
