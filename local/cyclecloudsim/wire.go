package cyclecloudsim

// The API's own objects are camelCase; node records are PascalCase maps;
// ip_addresses and the usage details are snake_case.

type creationRequest struct {
	RequestID string        `json:"requestId"`
	Sets      []creationSet `json:"sets"`
}

type creationSet struct {
	NodeArray  string `json:"nodearray"`
	Count      *int   `json:"count"`
	Definition struct {
		MachineType string `json:"machineType"`
	} `json:"definition"`
	NameFormat       string         `json:"nameFormat"`
	NameOffset       *int           `json:"nameOffset"`
	PlacementGroupID string         `json:"placementGroupId"`
	NodeAttributes   map[string]any `json:"nodeAttributes"`
}

type creationResult struct {
	OperationID string      `json:"operationId"`
	Sets        []setResult `json:"sets"`
}

type setResult struct {
	Added   int    `json:"added"`
	Message string `json:"message,omitempty"`
}

type managementRequest struct {
	RequestID   string   `json:"requestId"`
	Names       []string `json:"names"`
	IDs         []string `json:"ids"`
	Hostnames   []string `json:"hostnames"`
	IPAddresses []string `json:"ip_addresses"`
	Filter      string   `json:"filter"`
}

type managementResult struct {
	OperationID string       `json:"operationId"`
	Nodes       []nodeResult `json:"nodes"`
}

type nodeResult struct {
	Name   string `json:"name"`
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

type operationStatus struct {
	Action    string `json:"action"`
	StartTime string `json:"startTime"`
}

type nodeList struct {
	Nodes     []map[string]any `json:"nodes"`
	Operation *operationStatus `json:"operation,omitempty"`
}

type clusterStatus struct {
	State        string            `json:"state,omitempty"`
	TargetState  string            `json:"targetState,omitempty"`
	MaxCount     int               `json:"maxCount"`
	MaxCoreCount int               `json:"maxCoreCount"`
	NodeArrays   []nodearrayStatus `json:"nodearrays"`
	Nodes        *[]map[string]any `json:"nodes,omitempty"`
}

type nodearrayStatus struct {
	Name         string         `json:"name"`
	MaxCount     int            `json:"maxCount"`
	MaxCoreCount int            `json:"maxCoreCount"`
	NodeArray    map[string]any `json:"nodearray"`
	Buckets      []bucketStatus `json:"buckets"`
}

type bucketStatus struct {
	BucketID                string            `json:"bucketId"`
	Definition              map[string]string `json:"definition"`
	Valid                   bool              `json:"valid"`
	InvalidReason           string            `json:"invalidReason"`
	ActiveCount             int               `json:"activeCount"`
	ActiveCoreCount         int               `json:"activeCoreCount"`
	ActiveNodes             *[]string         `json:"activeNodes,omitempty"`
	AvailableCount          int               `json:"availableCount"`
	AvailableCoreCount      int               `json:"availableCoreCount"`
	MaxCount                int               `json:"maxCount"`
	MaxCoreCount            int               `json:"maxCoreCount"`
	QuotaCount              int               `json:"quotaCount"`
	QuotaCoreCount          int               `json:"quotaCoreCount"`
	ConsumedCoreCount       int               `json:"consumedCoreCount"`
	FamilyQuotaCount        *int              `json:"familyQuotaCount,omitempty"`
	FamilyQuotaCoreCount    *int              `json:"familyQuotaCoreCount,omitempty"`
	FamilyConsumedCoreCount *int              `json:"familyConsumedCoreCount,omitempty"`
	RegionalQuotaCount      *int              `json:"regionalQuotaCount,omitempty"`
	RegionalQuotaCoreCount  *int              `json:"regionalQuotaCoreCount,omitempty"`
	RegionalConsumed        *int              `json:"regionalConsumedCoreCount,omitempty"`
	MaxPlacementGroupSize   int               `json:"maxPlacementGroupSize"`
	MaxPlacementGroupCores  int               `json:"maxPlacementGroupCoreSize"`
	PlacementGroups         []groupStatus     `json:"placementGroups"`
	LastCapacityFailure     float64           `json:"lastCapacityFailure"`
	SpotPlacementScore      *string           `json:"spotPlacementScore,omitempty"`
	VirtualMachine          map[string]any    `json:"virtualMachine"`
}

type groupStatus struct {
	Name            string `json:"name"`
	ActiveCount     int    `json:"activeCount"`
	ActiveCoreCount int    `json:"activeCoreCount"`
}
