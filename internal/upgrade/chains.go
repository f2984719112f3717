package upgrade

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// argsWriter writes the arguments of steps, those that many share only once.
type argsWriter struct {
	shared map[any]json.RawMessage
	err    error // the first
}

func newArgsWriter() *argsWriter { return &argsWriter{shared: map[any]json.RawMessage{}} }

func (w *argsWriter) write(args any) json.RawMessage {
	switch args.(type) {
	case ActionArgs, StageArgs, RebootArgs, CleanupArgs, RestoreArgs, TidyArgs, LossesArgs:
		text, ok := w.shared[args]
		if !ok {
			text = w.marshal(args)
			w.shared[args] = text
		}
		return text
	}
	return w.marshal(args)
}

func (w *argsWriter) marshal(args any) json.RawMessage {
	text, err := json.Marshal(args)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("write the arguments of a step: %w", err)
	}
	return text
}

// chain grows the chain of one host.
type chain struct {
	b *builder
	h *inventory.Host
	Chain
}

func (b *builder) chain(h *inventory.Host) *chain {
	return &chain{b: b, h: h, Chain: Chain{Host: h.Name}}
}

// add appends a step: HOST/WORD/WORD.
func (c *chain) add(kind string, args any, timeout time.Duration, words ...string) *Step {
	c.Steps = append(c.Steps, Step{Step: job.Step{
		ID: stepID(c.h.Name, words...), Host: c.h.Name, Kind: kind, Args: c.b.args.write(args), Timeout: timeout, Idempotent: repeatable(kind),
	}})
	return &c.Steps[len(c.Steps)-1]
}

func stepID(h cluster.HostID, words ...string) string {
	return string(h) + "/" + strings.Join(words, "/")
}

// repeatable reports whether steps of a kind may be done twice. Only those that
// bring about a state are; programs of others and reboots are not, nor a look that
// counts anew once it has found something.
func repeatable(kind string) bool {
	switch kind {
	case KindAction, KindReboot, KindBackup, KindPairSwitch, KindLosses:
		return false
	}
	return true
}

// actions appends what the modules of the host do in a phase. An action that is
// done once is done by the first host that comes to it.
func (c *chain) actions(p manifest.Phase) {
	b := c.b
	for _, mod := range b.phases[p] {
		if !mod.On(c.h) || p == manifest.Backup && b.backedUp(c.h.Name, mod) {
			continue
		}
		if plan, ok := b.backupOf(mod.Name); p == manifest.Backup && ok {
			if providers()[plan.Provider].shared && !b.firstFor(mod.Name, p, c.h.Name) {
				continue
			}
			args := BackupArgs{Run: b.runOf(c.h.Name, mod.Name), Module: mod.Name, Provider: plan.Provider,
				Settings: plan.Settings, Confirmed: b.o.Confirmed}
			c.add(KindBackup, args, timeBackup, string(p), mod.Name)
			continue
		}
		c.action(mod, p)
	}
}

// firstFor reports whether a host is the one that does what is done once.
func (b *builder) firstFor(module string, p manifest.Phase, h cluster.HostID) bool {
	key := module + "/" + string(p)
	if first, taken := b.once[key]; taken {
		return first == h
	}
	b.once[key] = h
	return true
}

// action appends what one module does in a phase.
func (c *chain) action(mod *manifest.Module, p manifest.Phase) {
	b, a := c.b, mod.Actions.Get(p)
	if a == nil || a.None || a.Appctl != nil && a.Appctl.Offline && b.o.Mode != manifest.Offline {
		return
	}
	if a.AllHosts {
		if over, taken := b.once[mod.Name+"/"+string(p)]; taken && over == "" || c.h != b.activeManager() {
			return
		}
	} else if a.Once && !b.firstFor(mod.Name, p, c.h.Name) {
		return
	}
	mode := manifest.Rolling
	if b.o.Mode == manifest.Offline {
		mode = manifest.Offline
	}
	from, to := b.versionOf(c.h), b.m.Version
	if b.plan.Purpose == ForRollback && (p == manifest.Start || p == manifest.PostCheck) {
		from, to = to, from // the version before is installed again
	}
	args := ActionArgs{Run: b.runOf(c.h.Name, mod.Name), SHA256: b.o.SHA256, Module: mod.Name, Phase: p, Mode: mode, From: from, To: to}
	if a.Appctl != nil {
		args.Engine, args.SnapshotsDone = b.inv.Engine, b.confirmed(SnapshotsDone)
	}
	s := c.add(KindAction, args, mod.TimeoutOf(p), string(p), mod.Name)
	s.Idempotent = a.Idempotent
}

// drain appends that the guests leave, and that those that can not are shut down.
func (c *chain) drain(l leave) {
	if !c.b.drains(c.h) {
		return
	}
	c.drainOnly(l)
	c.vmStop(l.stops)
}

func (c *chain) drainOnly(l leave) {
	o := &c.b.o
	args := evacuate.DrainArgs{Moves: l.moves, Targets: o.Targets, Network: o.MigrationNetwork, Parallel: c.b.parallel()}
	for _, v := range l.stops {
		args.Stay = append(args.Stay, v.Name)
	}
	c.add(evacuate.KindDrain, args, timeMoves+time.Duration(l.memory>>10)*timePerGiB, "drain")
}

// parallel is how many guests may move at once from each of the hosts that are
// emptied at the same time, so that all of them together keep to the bound.
func (b *builder) parallel() int {
	return max(1, min(b.o.ParallelPerHost, b.o.ParallelTotal/b.o.MaxUnavailable.Of(len(b.part))))
}

func (c *chain) vmStop(vms []*inventory.VM) {
	if len(vms) > 0 {
		c.add(KindVMStop, VMArgs{guests(vms)}, timeVM, "vm-stop")
	}
}

func (c *chain) vmStart(vms []*inventory.VM) {
	if len(vms) > 0 {
		c.add(KindVMStart, VMArgs{guests(vms)}, timeVM, "vm-start").Restores = []string{stepID(c.h.Name, "vm-stop")}
	}
}

func guests(vms []*inventory.VM) []Guest {
	out := make([]Guest, len(vms))
	for i, v := range vms {
		out[i] = Guest{v.Name, v.UUID, v.Protected}
	}
	return out
}

// check appends the checks at a point of the run.
func (c *chain) check(when When, word string) {
	c.add(KindCheck, c.b.checkArgs(when), timeCheck, word)
}

func (b *builder) checkArgs(when When) CheckArgs {
	args := CheckArgs{When: when, Run: b.o.Run, SHA256: b.o.SHA256, Mode: b.o.Mode}
	if when == Before && b.pins() {
		args.Pin = b.o.Pin
	}
	return args
}

// stage appends that the bundle is brought to the host.
func (c *chain) stage() {
	c.add(KindStage, StageArgs{c.b.m.Name, c.b.m.Version, c.b.o.SHA256}, timeStage, "stage")
}

// tidy appends that what runs have left on the host goes, but for the bundle of
// this one. It is a favour: guests and hosts are well without it.
func (c *chain) tidy(staged bool) {
	c.add(KindTidy, TidyArgs{c.b.o.SHA256, staged}, timeTidy, "tidy").Soft = true
}

// undrain appends that the host takes guests again, and that its own return.
func (c *chain) undrain(l leave) {
	if !c.b.drains(c.h) {
		return
	}
	drained := []string{drainID(c.h.Name)}
	c.vmStart(l.stops)
	c.add(evacuate.KindUndrain, evacuate.UndrainArgs{Maintenance: c.h.Maintenance}, timeSwitch, "undrain").Restores = drained
	if !c.b.o.MoveBack || len(l.moves) == 0 {
		return
	}
	o := &c.b.o
	args := evacuate.UndrainArgs{Network: o.MigrationNetwork, Parallel: c.b.parallel(), Total: o.ParallelTotal, Maintenance: c.h.Maintenance}
	for _, m := range l.moves {
		m.From, m.To = m.To, c.h.Name
		args.Back = append(args.Back, m)
	}
	s := c.add(evacuate.KindUndrain, args, timeMoves+time.Duration(l.memory>>10)*timePerGiB, "back")
	s.Restores, s.Soft = drained, true
}

// reboot appends a reboot with what must be taken off before and be well after.
func (c *chain) reboot(kernel string) {
	pools := c.pools()
	if len(pools) > 0 {
		c.add(KindStorageDetach, StorageArgs{pools}, timeStorage, "storage-detach")
	}
	c.add(KindReboot, RebootArgs{kernel}, timeReboot, "reboot")
	if len(pools) > 0 {
		c.add(KindStorageAttach, StorageArgs{pools}, timeStorage, "storage-attach").Restores = []string{stepID(c.h.Name, "storage-detach")}
	}
	args := VerifyArgs{Reboot: stepID(c.h.Name, "reboot"), Kernel: kernel}
	for _, p := range c.h.Pools {
		if p.Active {
			args.Pools = append(args.Pools, p.Name)
		}
	}
	c.add(KindVerify, args, timeCheck, "verify")
}

// pools are what hangs a reboot when it is not detached before, shared storage and
// templates, and what would be gone after it: transient pools. A shared pool with one path comes back with multipath.
func (c *chain) pools() []StoragePool {
	var out []StoragePool
	for _, p := range c.h.Pools {
		if p.Active && (p.Shared || p.Transient || p.Use == "template") {
			out = append(out, StoragePool{p.Name, p.Kind, p.Use, p.Shared && p.Paths == 1})
		}
	}
	return out
}

// pairStop appends that the hot-standby services of the host stop. A program that changes
// all hosts needs them, and stops them itself.
func (c *chain) pairStop() {
	if p := c.b.inv.Pair; c.b.inPair(c.h) && len(p.Stop) > 0 && c.b.m.AllHosts() == nil {
		c.add(KindPairStop, PairArgs{p.Stop, p.Status}, timePair, "pair-stop")
	}
}

// pairStart appends that the hot-standby services of the host start and are
// healthy. They are stopped by the step before, by a change of the kernel, or by a
// reboot, so it makes good whatever of these was begun. when tells one start in a
// run from another.
func (c *chain) pairStart(when string) {
	p := c.b.inv.Pair
	if !c.b.inPair(c.h) || len(p.Start) == 0 {
		return
	}
	var restores []string
	for _, s := range c.Steps {
		switch s.Kind {
		case KindPairStop, KindAction, KindRestore, KindReboot:
			restores = append(restores, s.ID)
		}
	}
	c.add(KindPairStart, PairArgs{p.Start, p.Status}, timePair, "pair-start", when).Restores = restores
}
