package reason

// Codes are written to records and told to programs: they, and the names of their
// arguments, do not change. Texts may.

// Why jobs are paused, have ended without success, or do not go on.
var (
	PausedBy  = code("paused-by", "paused by {user}")
	AbortedBy = code("aborted-by", "aborted by {user}")
	Restored  = code("restored", "the store was restored from a backup, in which this was {state}, and it may have "+
		"ended since: look at its hosts, then holdfast jobs resume {job} or holdfast jobs abort {job}")
	Error = code("error", "{error}") // what somebody else has said
	More  = code("more", "and {count} more")

	HostSilent = code("host-silent", "host {host} is silent")
	LeadsNot   = code("leads-not", "the agent of {host} ({version}, generation {has}) coordinates and does not lead "+
		"this job, which was begun by an agent of generation {generation}: "+
		"generations may be one apart at most; bring the agent of {host} to a version of generation {least} to {most}")
	TooFarApart = code("too-far-apart", "the agent of {host} ({version}, generation {has}) gets no steps of this job "+
		"(generation {generation}) from "+
		"the agent of {coordinator} ({coordinatorversion}, generation {coordinatorhas}), who coordinates: "+
		"generations may be one apart at most; bring the agent of {host} to a version of generation {least} to {most}")
)

// Why a transition is paused, and what its end leaves.
var (
	Confirm      = code("confirm", "{what}; then: holdfast jobs resume {job}")
	UpgradeStays = code("upgrade-stays", "an upgrade that it has begun is not ended by that: holdfast upgrade status")
)

// Why steps of an upgrade do not begin, and why it is paused.
var (
	StepFailed    = code("step-failed", "{step} failed: {why}")
	StepUnclear   = code("step-unclear", "{step} was begun and may have been done: {why}")
	HostGone      = code("host-gone", "{host} has been away for longer than the step may take")
	WaveDone      = code("wave-done", "wave {wave} of {waves} is done; resume for the next")
	ComesBack     = code("comes-back", "waits for {host} to come back")
	OneComesBack  = code("one-comes-back", "waits for one of {hosts} to come back")
	AgentSilent   = code("agent-silent", "the agent of {host} does not answer")
	StageFull     = code("stage-full", "{count} hosts are under way, as many as may be at once")
	OutsideWindow = code("outside-window", "outside of the window {window}")
	TooManyAway   = code("too-many-away", "{count} hosts are unavailable, and {limit} may be at once")
	Slowed        = code("slowed", "{count} hosts are under way, as many as may be at once, because guests of "+
		"{hosts} have lost more than half of the packets that --loss-limit allows")
	CanaryFirst  = code("canary-first", "the canary hosts are not done")
	WaveFirst    = code("wave-first", "wave {wave} is not done")
	StepFirst    = code("step-first", "waits for {first}")
	NotApproved  = code("not-approved", "{host} is not approved")
	MemberLeaves = code("member-leaves", "waits for {host}: two members of the store must not be away at once")
	MemberAway   = code("member-away", "waits for {host}, which is away: two members of the store must not be away at once")
	NoMajority   = code("no-majority", "waits for {host}, which is away: without both the store has no majority")
	BeingEnded   = code("being-ended", "is being aborted")
	TriedAgain   = code("tried-again", "{step} is tried again: {why}")
)

// What the end of an upgrade has left.
var (
	LeftDropped = code("left-dropped", "left as they were when they were dropped: {hosts}")
	Between     = code("between-versions", "between two versions: {hosts}")
	NotRestored = code("not-restored", "not restored: {steps}")
	BackupsStay = code("backups-stay", "backups stay because steps of the rollback were skipped: {hosts}")
	NotTidied   = code("not-tidied", "backups and files that are not needed any more stay until the next run: {hosts}")
)

// Why a plan leaves a host out.
var (
	DroppedByOperator = code("dropped", "dropped by the operator")
	SkippedForVM      = code("skipped-for-vm", "VM {vm} can not move, and its policy is to skip its host")
	HasVersion        = code("has-version", "it has version {version} already")
	NoModule          = code("no-module", "no module runs on it")
	Lost              = code("lost", "lost, by the operator's word")
	RolledBack        = code("rolled-back", "rolled back already")
	NotAskedFor       = code("not-asked-for", "not asked for")
	NeverUpgraded     = code("never-upgraded", "never upgraded")
	NotFinished       = code("not-finished", "dropped from the upgrade, left half-way, or gone")
	NoTurn            = code("no-turn", "its turn never came")
)

// Why an owner record is as it is. Their arguments are host and why alone, as in
// cluster.ReasonArgs.
var (
	Start            = code("start", "start")
	StopRequested    = code("stop-requested", "stop requested")
	Stopped          = code("stopped", "stopped on request")
	TakeoverFrom     = code("takeover", "takeover from {host}")
	HolderLost       = code("holder-lost", "{host} is lost")
	StoreRestored    = code("store-restored", "the store was restored")
	StartFailed      = code("start-failed", "the start failed: {why}")
	StartInterrupted = code("start-interrupted", "the agent was restarted during the start")
	NotAble          = code("not-able", "not able to start: {why}")
	Unobservable     = code("blind", "it can not be observed")
	GuestEnded       = code("guest-ended", "its process has ended")
	GuestKilled      = code("guest-killed", "it was killed: {why}")
	GivenUp          = code("given-up", "it was given up here: {why}")
	MoveRequested    = code("migration-requested", "move requested")
	InMaintenance    = code("in-maintenance", "{host} is in maintenance")
	MoveCancelled    = code("migration-cancelled", "cancelled")
	MoveFailed       = code("migration-failed", "{why}")
	TargetNotAble    = code("target-not-able", "{host} {why}")
	GuestLeft        = code("guest-left", "it has left {host}")
	LostInMove       = code("lost-in-migration", "it was lost in a move")
)
