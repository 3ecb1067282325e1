// Package setup answers one question: is everything there that the local world
// needs, and if not, how does it get there? It installs Debian packages and npm
// packages and nothing else. It must never start a service, never touch what is
// already there, and never name a registry: the machine's own configuration of
// apt and npm decides where packages come from.
package setup
