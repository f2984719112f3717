// Package config reads, checks and samples the cluster configuration (the JSON
// of the source tool, field for field) and an agent's own settings.
package config
