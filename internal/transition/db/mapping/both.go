package mapping

import "slices"

// Both are the tables, DATABASE.TABLE as the server names them, that would be read and
// written if source and target are one server.
func (p *Plan) Both() (out []string) {
	read := map[string]bool{}
	for i := range p.Tables {
		for _, t := range p.Tables[i].Reads() {
			db, name := p.Tables[i].SourceName(t)
			read[db+"."+name] = true
		}
	}
	for i := range p.Tables {
		db, name := p.Tables[i].OnTarget()
		if t := db + "." + name; read[t] && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	slices.Sort(out)
	return out
}
