package told

import "holdfast/internal/config"

// Effect is what of an import takes effect at the same time. Bad is what is not done by an import.
type Effect struct {
	Head    string // ends in a colon
	Tone    Tone
	Changes []config.Change
}

// Effects puts changes in order of when they take effect, the soonest first.
func Effects(changes []config.Change) (out []Effect) {
	for _, e := range []struct {
		of config.Effect
		Effect
	}{
		{config.Now, Effect{Head: "takes effect within seconds, without a restart:", Tone: Good}},
		{config.AtStart, Effect{Head: "takes effect at the next start of the management VM (holdfast stop, then\nholdfast start, " +
			"or a shutdown from inside it):", Tone: Warn}},
		{config.Swap, Effect{Head: "replaces a member, which holdfast install -c FILE does:", Tone: Bad}},
		{config.ByOrder, Effect{Head: "is changed by a command of its own:", Tone: Bad}},
		{config.Install, Effect{Head: "can not be changed while the cluster runs:", Tone: Bad}},
	} {
		for _, c := range changes {
			if c.Effect == e.of {
				e.Changes = append(e.Changes, c)
			}
		}
		if len(e.Changes) > 0 {
			out = append(out, e.Effect)
		}
	}
	return out
}
