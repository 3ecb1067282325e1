package slurm

import (
	"encoding/json"

	"github.com/slurmburst/slurmburst/internal/fault"
)

// ResumedJob is a job for which Slurm called ResumeProgram.
type ResumedJob struct {
	Job JobID
	// Nodes are those of this call that the job waits for. With a
	// ResumeRate that is a part of the job's nodes.
	Nodes []NodeName
}

// ParseResumeFile reads what slurmctld left in SLURM_RESUME_FILE. The keys
// changed in 23.02 (nodes became nodes_resume); both are read, unknown ones
// passed over. A node that was powered up by hand has no job. The file says
// for which jobs nodes boot; which nodes boot is the hook's argument alone.
func ParseResumeFile(data []byte) ([]ResumedJob, error) {
	var file struct {
		Jobs []struct {
			JobID       JobID  `json:"job_id"`
			Nodes       string `json:"nodes"`
			NodesResume string `json:"nodes_resume"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fault.New(fault.Invalid, "read resume file", err)
	}
	var jobs []ResumedJob
	for _, job := range file.Jobs {
		list := job.NodesResume
		if list == "" {
			list = job.Nodes
		}
		nodes, err := ParseHostlist(list)
		if err != nil {
			return nil, fault.New(fault.Invalid, "read resume file: nodes of job "+job.JobID.String(), err)
		}
		jobs = append(jobs, ResumedJob{Job: job.JobID, Nodes: nodes})
	}
	return jobs, nil
}
