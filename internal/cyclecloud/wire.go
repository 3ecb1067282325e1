package cyclecloud

// The structs of this file are the wire format. API objects are camelCase,
// node records PascalCase, and the query parameter is request_id where the
// body says requestId. A pointer to a slice tells a missing list, which is no
// answer, from an empty one, which is.

type wireStatus struct {
	State        text             `json:"state"`
	TargetState  text             `json:"targetState"`
	MaxCount     number           `json:"maxCount"`
	MaxCoreCount number           `json:"maxCoreCount"`
	NodeArrays   *[]wireNodeArray `json:"nodearrays"`
	Nodes        *[]wireNode      `json:"nodes"`
}

type wireNodeArray struct {
	Name         text                     `json:"name"`
	MaxCount     number                   `json:"maxCount"`
	MaxCoreCount number                   `json:"maxCoreCount"`
	Record       lenient[wireArrayRecord] `json:"nodearray"`
	Buckets      []wireBucket             `json:"buckets"`
}

type wireArrayRecord struct {
	Region           text               `json:"Region"`
	Interruptible    flag               `json:"Interruptible"`
	Priority         number             `json:"Priority"`
	PlacementGroupID text               `json:"PlacementGroupId"`
	Azure            lenient[wireAzure] `json:"Azure"`
}

type wireAzure struct {
	MaxScalesetSize number `json:"MaxScalesetSize"`
}

type wireBucket struct {
	BucketID      text                    `json:"bucketId"`
	Definition    lenient[wireDefinition] `json:"definition"`
	Valid         flag                    `json:"valid"`
	InvalidReason text                    `json:"invalidReason"`

	ActiveCount     number          `json:"activeCount"`
	ActiveCoreCount number          `json:"activeCoreCount"`
	ActiveNodes     lenient[[]text] `json:"activeNodes"`

	AvailableCount     number `json:"availableCount"`
	AvailableCoreCount number `json:"availableCoreCount"`
	MaxCount           number `json:"maxCount"`
	MaxCoreCount       number `json:"maxCoreCount"`

	QuotaCount                number `json:"quotaCount"`
	QuotaCoreCount            number `json:"quotaCoreCount"`
	ConsumedCoreCount         number `json:"consumedCoreCount"`
	FamilyQuotaCount          number `json:"familyQuotaCount"`
	FamilyQuotaCoreCount      number `json:"familyQuotaCoreCount"`
	FamilyConsumedCoreCount   number `json:"familyConsumedCoreCount"`
	RegionalQuotaCount        number `json:"regionalQuotaCount"`
	RegionalQuotaCoreCount    number `json:"regionalQuotaCoreCount"`
	RegionalConsumedCoreCount number `json:"regionalConsumedCoreCount"`

	MaxPlacementGroupSize number                        `json:"maxPlacementGroupSize"`
	PlacementGroups       lenient[[]wirePlacementGroup] `json:"placementGroups"`
	LastCapacityFailure   number                        `json:"lastCapacityFailure"`
	SpotPlacementScore    text                          `json:"spotPlacementScore"`
	VirtualMachine        lenient[wireVirtualMachine]   `json:"virtualMachine"`
}

type wireDefinition struct {
	MachineType text `json:"machineType"`
}

type wirePlacementGroup struct {
	Name        text   `json:"name"`
	ActiveCount number `json:"activeCount"`
}

type wireVirtualMachine struct {
	VCPUCount      number `json:"vcpuCount"`
	PCPUCount      number `json:"pcpuCount"`
	GPUCount       number `json:"gpuCount"`
	Memory         number `json:"memory"`
	Infiniband     flag   `json:"infiniband"`
	VCPUQuotaCount number `json:"vcpuQuotaCount"`
}

type wireNodeList struct {
	Nodes *[]wireNode `json:"nodes"`
}

type wireNode struct {
	Name             text   `json:"Name"`
	NodeID           text   `json:"NodeId"`
	Template         text   `json:"Template"`
	MachineType      text   `json:"MachineType"`
	Status           text   `json:"Status"`
	State            text   `json:"State"`
	TargetState      text   `json:"TargetState"`
	StatusMessage    text   `json:"StatusMessage"`
	PlacementGroupID text   `json:"PlacementGroupId"`
	Interruptible    flag   `json:"Interruptible"`
	KeepAlive        flag   `json:"KeepAlive"`
	Hostname         text   `json:"Hostname"`
	PrivateIP        text   `json:"PrivateIp"`
	InstanceID       text   `json:"InstanceId"`
	RequestID        text   `json:"RequestId"`
	Region           text   `json:"Region"`
	CoreCount        number `json:"CoreCount"`
}

// wireCreate and wireCreateSet are written by us and so have plain types.
type wireCreate struct {
	RequestID RequestID       `json:"requestId,omitempty"`
	Sets      []wireCreateSet `json:"sets"`
}

type wireCreateSet struct {
	NodeArray        NodeArrayName      `json:"nodearray"`
	Count            int                `json:"count"`
	Definition       *wireSetDefinition `json:"definition,omitempty"`
	NameFormat       string             `json:"nameFormat,omitempty"`
	NameOffset       int                `json:"nameOffset,omitempty"`
	PlacementGroupID string             `json:"placementGroupId,omitempty"`
}

type wireSetDefinition struct {
	MachineType MachineType `json:"machineType"`
}

type wireCreateResult struct {
	OperationID text             `json:"operationId"`
	Sets        *[]wireSetResult `json:"sets"`
}

type wireSetResult struct {
	Added   number `json:"added"`
	Message text   `json:"message"`
}

// wireNodeRequest has no other selector on purpose: several are a union on the
// server, and an empty or broad one hits nodes that nobody meant.
type wireNodeRequest struct {
	RequestID RequestID `json:"requestId,omitempty"`
	IDs       []NodeID  `json:"ids"`
}

type wireNodeResult struct {
	OperationID text               `json:"operationId"`
	Nodes       *[]wireNodeOutcome `json:"nodes"`
}

type wireNodeOutcome struct {
	Name   text `json:"name"`
	ID     text `json:"id"`
	Status text `json:"status"`
	Error  text `json:"error"`
}

type wireOperation struct {
	Action    text `json:"action"`
	StartTime text `json:"startTime"`
}
