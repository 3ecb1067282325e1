// Package agent is the head node's side of the conversation with the cloud. It
// answers two questions: what does the queue look like now, and what did Slurm
// make of a command? It publishes whole snapshots and carries out commands on
// the nodes of its allow-list, while it holds the session of its command queue.
//
// It must never decide whether the cloud should grow or shrink, never touch a
// node outside its allow-list, never publish a snapshot made of half an answer,
// and never remove a spool file before the broker has accepted a snapshot that
// tells of it. After an outage it takes a new snapshot; it keeps none back.
package agent
