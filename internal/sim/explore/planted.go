package explore

// scope is where a planted bug is found: the smallest one that is known.
type scope struct {
	name, rule string
	o          Options
}

func scopes() []scope {
	return []scope{
		{"late-deadline", ruleFalseProof, Options{Faults: 1, Delays: 2, Begin: []string{"apart"}, Only: []string{"cut", "hold-reply", "hold-work"}}},
		{"pet-beyond", ruleFalseProof, Options{Faults: 1, Delays: -1}},
		{"early-disarm", ruleFalseProof, Options{Faults: 2, Delays: -1, Begin: []string{"apart"}, Only: []string{"cut", "freeze"}}},
		{"no-grace", ruleFalseProof, Options{Faults: 1, Delays: -1}},
		{"no-expel", ruleFalseProof, Options{Faults: -1, Delays: 1}},
		{"stale-start", ruleStaleStart, Options{Faults: -1, Delays: 1}},
		{"no-term", ruleOldTerm, Options{Faults: 1, Delays: -1}},
		{"fence-no-readback", ruleFalseProof, Options{Faults: 2, Delays: -1, Begin: []string{"fence"}}},
		{"one-proof-for-two", ruleFalseProof, Options{Faults: 1, Delays: 1, Begin: []string{"migrating"}, Only: []string{"power", "slow"}}},
		{"start-in-handover", ruleNoProof, Options{Faults: 1, Delays: -1}},
		{"lease-as-lock", ruleFalseProof, Options{Faults: 1, Delays: -1}},
		{"no-inherit", ruleUnguardedG, Options{Faults: 1, Delays: 1, Begin: []string{"nothing"}}},
		{"open-unseen", ruleUnguardedG, Options{Faults: 1, Delays: 1, Begin: []string{"nothing"}}},
		{"gone-is-moved", ruleStaleGuest, Options{Faults: 2, Delays: 1, Begin: []string{"migrating"}, Only: []string{"move-fails", "guest-ends", "slow"}}},
		{"resume-early", ruleTwoHosts, Options{Faults: 1, Delays: -1, Begin: []string{"migrating"}}},
		{"double-claim", ruleTwoCalls, Options{Faults: 1, Delays: 1, Begin: []string{"nothing"}}},
	}
}

// plantDepth is more than any planted bug needs.
const plantDepth = 60

// Scope gives the options with which a planted bug is found. Without one it says
// why the model can not reach it; "" when no such bug can be planted.
func Scope(plant string) (o Options, why string, ok bool) {
	for _, s := range scopes() {
		if s.name == plant {
			s.o.Plant, s.o.Depth = plant, plantDepth
			return s.o, "", true
		}
	}
	if plant == "boot-unchecked" {
		why = "a host that returns gets no lease from an old record, and fence devices of the model do not lie when they are read back"
	}
	return o, why, false
}

// ruleOf is the rule that a planted bug breaks first.
func ruleOf(plant string) string {
	for _, s := range scopes() {
		if s.name == plant {
			return s.rule
		}
	}
	return ""
}
