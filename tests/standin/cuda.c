/* A stand-in for the CUDA driver, for tests: host memory, a clock, and no GPU.

A stream is a queue: what is enqueued happens when the stream is synchronised, not before, and the host's
end of a copy is filled with NaN meanwhile, so that reading too early shows. Every call goes to the file
CUDA_STANDIN_LOG, and so does what no program may do (VIOLATION) and what was never released (LEAK).
CUDA_STANDIN_FAULT=name:nth:code makes calls of that name fail from the nth on. CUDA_STANDIN_CAPABILITY=8.6 makes the
GPU another one, CUDA_STANDIN_VERSION=12020 the driver an older one. There are two GPUs, of which CUDA_VISIBLE_DEVICES
leaves some: numbers or UUIDs, as the real driver reads it. */

#include <cuda.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MANY 256
#define OPS 4096

enum kind { COPY, STAMP, WORK };
struct op { enum kind kind; char *to, *from; size_t bytes; struct event *event; void (*work)(void *); void *argument; };
struct queue { int count; struct op ops[OPS]; };
struct stream { struct queue queue; struct queue *capture; };
struct event { int done; struct timespec when; };
struct block { char *start; size_t bytes; };

static struct block device_memory[MANY], host_memory[MANY];
static struct stream *streams[MANY];
static int contexts, events, graphs, launchables, objects, retained, pushed;

static void note(const char *format, ...) {
    const char *path = getenv("CUDA_STANDIN_LOG");
    if (!path) return;
    char line[300];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (write(file, line, length) != length) abort();
    close(file);
}

static CUresult called(const char *name) {
    const char *fault = getenv("CUDA_STANDIN_FAULT");
    static int seen;
    char which[100];
    int nth, code;
    note("%s", name);
    if (!fault || sscanf(fault, "%99[^:]:%d:%d", which, &nth, &code) != 3 || strcmp(which, name)) return CUDA_SUCCESS;
    return ++seen >= nth ? (CUresult)code : CUDA_SUCCESS;
}

#define CALLED(name) do { CUresult fault = called(#name); if (fault) return fault; } while (0)
#define CURRENT() do { if (!pushed) { note("VIOLATION no context is current"); return CUDA_ERROR_INVALID_CONTEXT; } } while (0)

static struct block *find(struct block *blocks, const char *address, size_t bytes) {
    for (int i = 0; i < MANY; i++)
        if (blocks[i].start && address >= blocks[i].start && address + bytes <= blocks[i].start + blocks[i].bytes)
            return &blocks[i];
    return NULL;
}

static int live(struct block *blocks) {
    int count = 0;
    for (int i = 0; i < MANY; i++) count += blocks[i].start != NULL;
    return count;
}

static int live_streams(void) {
    int count = 0;
    for (int i = 0; i < MANY; i++) count += streams[i] != NULL;
    return count;
}

static CUresult allocate(struct block *blocks, size_t bytes, void **address) {
    CURRENT();
    for (int i = 0; i < MANY; i++)
        if (!blocks[i].start) {
            blocks[i] = (struct block){malloc(bytes), bytes};
            memset(blocks[i].start, 0xff, bytes);
            *address = blocks[i].start;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult release(struct block *blocks, char *address) {
    CURRENT();
    struct block *block = find(blocks, address, 1);
    if (!block || block->start != address) {
        note("VIOLATION freed what is not allocated");
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (int i = 0; i < MANY; i++)
        for (int j = 0; streams[i] && j < streams[i]->queue.count; j++) {
            struct op *op = &streams[i]->queue.ops[j];
            if (op->kind == COPY && (find(block, op->to, 1) == block || find(block, op->from, 1) == block))
                note("VIOLATION freed before a copy that uses it");
        }
    memset(block->start, 0xff, block->bytes);
    free(block->start);
    block->start = NULL;
    return CUDA_SUCCESS;
}

static CUresult enqueue(CUstream handle, struct op op) {
    struct stream *stream = (struct stream *)handle;
    struct queue *queue = stream->capture ? stream->capture : &stream->queue;
    if (queue->count == OPS) abort();
    queue->ops[queue->count++] = op;
    return CUDA_SUCCESS;
}

static void drain(struct stream *stream) {
    for (int i = 0; i < stream->queue.count; i++) {
        struct op *op = &stream->queue.ops[i];
        if (op->kind == COPY) memcpy(op->to, op->from, op->bytes);
        if (op->kind == WORK) op->work(op->argument);
        if (op->kind == STAMP) { op->event->done = 1; clock_gettime(CLOCK_MONOTONIC, &op->event->when); }
    }
    stream->queue.count = 0;
}

/* What the stand-in for TensorRT's execution uses. */
void standin_enqueue(void *stream, void (*work)(void *), void *argument) {
    enqueue(stream, (struct op){.kind = WORK, .work = work, .argument = argument});
}
int standin_on_device(size_t address, size_t bytes) { return find(device_memory, (char *)address, bytes) != NULL; }
void standin_violation(const char *text) { note("VIOLATION %s", text); }
void standin_count_objects(int difference) { objects += difference; }

CUresult CUDAAPI cuDriverGetVersion(int *version) {
    const char *given = getenv("CUDA_STANDIN_VERSION");
    *version = given ? atoi(given) : CUDA_VERSION;
    return CUDA_SUCCESS;
}

/* Which of the two GPUs is the one of that number among the visible, -1 where there are not so many. */
static int visible(int ordinal) {
    const char *said = getenv("CUDA_VISIBLE_DEVICES");
    if (!said) return ordinal < 2 ? ordinal : -1;
    for (int at = 0; *said; at++) {
        int device = said[0] == 'G' ? said[4] - '0' : atoi(said);
        if (device < 0 || device > 1) return -1; /* what follows an invalid one is invisible too */
        if (at == ordinal) return device;
        said += strcspn(said, ",");
        said += *said == ',';
    }
    return -1;
}
CUresult CUDAAPI cuInit(unsigned flags) {
    (void)flags;
    CALLED(cuInit);
    return visible(0) < 0 ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetCount(int *count) {
    CALLED(cuDeviceGetCount);
    for (*count = 0; visible(*count) >= 0; ++*count);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
    CALLED(cuDeviceGet);
    *device = visible(ordinal);
    return *device < 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetName(char *name, int length, CUdevice device) {
    CALLED(cuDeviceGetName);
    snprintf(name, length, device ? "stand-in for an A10" : "stand-in for a Tesla T4");
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    memset(uuid->bytes, device ? 0x11 : 0, sizeof uuid->bytes);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) {
    *bytes = (size_t)(device ? 23028 : 15360) << 20;
    return CUDA_SUCCESS;
}
static void read_capability(int *major, int *minor, CUdevice device) {
    const char *capability = getenv("CUDA_STANDIN_CAPABILITY");
    sscanf(capability ? capability : device ? "8.6" : "7.5", "%d.%d", major, minor);
}
CUresult CUDAAPI cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    CALLED(cuDeviceComputeCapability);
    read_capability(major, minor, device);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    int major, minor;
    read_capability(&major, &minor, device);
    switch ((int)attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = major; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = minor; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: *value = 5001000; break;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: *value = 256; break;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 4 << 20; break;
    default: *value = 1;
    }
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text) {
    static char words[60];
    const char *text_of = error == 719 ? "unspecified launch failure" : error == 700 ? "an illegal memory access" : "error";
    snprintf(words, sizeof words, "%s %d", text_of, (int)error);
    *text = words;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    (void)device;
    CALLED(cuDevicePrimaryCtxRetain);
    retained++;
    *context = (CUcontext)&contexts;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
    (void)device;
    CALLED(cuDevicePrimaryCtxRelease);
    int left = live(device_memory) + live(host_memory) + live_streams() + events + graphs + launchables + objects;
    if (--retained == 0 && left) note("VIOLATION %d things outlive the context", left);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuCtxPushCurrent(CUcontext context) { (void)context; CALLED(cuCtxPushCurrent); pushed++; return CUDA_SUCCESS; }
CUresult CUDAAPI cuCtxPopCurrent(CUcontext *context) {
    CALLED(cuCtxPopCurrent);
    CURRENT();
    pushed--;
    *context = (CUcontext)&contexts;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *address, size_t bytes) {
    CALLED(cuMemAlloc);
    void *start = NULL;
    CUresult result = allocate(device_memory, bytes, &start);
    *address = (CUdeviceptr)start;
    return result;
}
CUresult CUDAAPI cuMemFree(CUdeviceptr address) { CALLED(cuMemFree); return release(device_memory, (char *)address); }
CUresult CUDAAPI cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    (void)flags;
    CALLED(cuMemHostAlloc);
    return allocate(host_memory, bytes, address);
}
CUresult CUDAAPI cuMemFreeHost(void *address) { CALLED(cuMemFreeHost); return release(host_memory, address); }

static CUresult copy(void *to, struct block *to_kind, const void *from, struct block *from_kind, size_t bytes, CUstream stream) {
    CURRENT();
    if (!find(to_kind, to, bytes) || !find(from_kind, from, bytes)) {
        note("VIOLATION copied %zu bytes past a buffer or to pageable memory", bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    return enqueue(stream, (struct op){.kind = COPY, .to = to, .from = (char *)from, .bytes = bytes});
}
CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    CALLED(cuMemcpyHtoDAsync);
    return copy((void *)to, device_memory, from, host_memory, bytes, stream);
}
CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    CALLED(cuMemcpyDtoHAsync);
    CUresult result = copy(to, host_memory, (void *)from, device_memory, bytes, stream);
    if (result == CUDA_SUCCESS) memset(to, 0xff, bytes);
    return result;
}

CUresult CUDAAPI cuStreamCreate(CUstream *stream, unsigned flags) {
    (void)flags;
    CALLED(cuStreamCreate);
    CURRENT();
    int i = 0;
    while (streams[i]) i++;
    streams[i] = calloc(1, sizeof(struct stream));
    *stream = (CUstream)streams[i];
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuStreamSynchronize(CUstream stream) {
    CUresult fault = called("cuStreamSynchronize");
    if (fault) { /* a GPU that is lost does nothing more of what it was given */
        ((struct stream *)stream)->queue.count = 0;
        return fault;
    }
    CURRENT();
    drain((struct stream *)stream);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuStreamDestroy(CUstream stream) {
    CALLED(cuStreamDestroy);
    CURRENT();
    if (((struct stream *)stream)->queue.count) note("VIOLATION destroyed a stream with work in it");
    for (int i = 0; i < MANY; i++)
        if (streams[i] == (struct stream *)stream) streams[i] = NULL;
    free(stream);
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventCreate(CUevent *event, unsigned flags) {
    (void)flags;
    CALLED(cuEventCreate);
    CURRENT();
    events++;
    *event = calloc(1, sizeof(struct event));
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuEventRecord(CUevent event, CUstream stream) {
    CALLED(cuEventRecord);
    ((struct event *)event)->done = 0;
    return enqueue(stream, (struct op){.kind = STAMP, .event = (struct event *)event});
}
CUresult CUDAAPI cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    CALLED(cuEventElapsedTime);
    struct event *start = (struct event *)from, *end = (struct event *)to;
    if (!start->done || !end->done) {
        note("VIOLATION read an event before the stream was done");
        return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = 1e3f * (end->when.tv_sec - start->when.tv_sec) + 1e-6f * (end->when.tv_nsec - start->when.tv_nsec);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuEventDestroy(CUevent event) { CALLED(cuEventDestroy); CURRENT(); events--; free(event); return CUDA_SUCCESS; }

CUresult CUDAAPI cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    (void)mode;
    CALLED(cuStreamBeginCapture);
    struct stream *stream = (struct stream *)handle;
    if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
    stream->capture = calloc(1, sizeof(struct queue));
    graphs++;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    struct stream *stream = (struct stream *)handle;
    CUresult fault = called("cuStreamEndCapture");
    if (fault) { /* which ends the capture all the same, with nothing to show for it */
        free(stream->capture);
        stream->capture = NULL;
        graphs--;
        return fault;
    }
    *graph = (CUgraph)stream->capture;
    stream->capture = NULL;
    return *graph ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_STATE;
}
CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec *launchable, CUgraph graph, unsigned long long flags) {
    (void)flags;
    CALLED(cuGraphInstantiateWithFlags);
    struct queue *copied = malloc(sizeof *copied);
    *copied = *(struct queue *)graph;
    *launchable = (CUgraphExec)copied;
    launchables++;
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuGraphLaunch(CUgraphExec launchable, CUstream stream) {
    CALLED(cuGraphLaunch);
    struct queue *queue = (struct queue *)launchable;
    for (int i = 0; i < queue->count; i++) enqueue(stream, queue->ops[i]);
    return CUDA_SUCCESS;
}
CUresult CUDAAPI cuGraphDestroy(CUgraph graph) { CALLED(cuGraphDestroy); graphs--; free(graph); return CUDA_SUCCESS; }
CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec launchable) { CALLED(cuGraphExecDestroy); launchables--; free(launchable); return CUDA_SUCCESS; }

__attribute__((destructor)) static void at_exit(void) {
    struct { const char *name; int count; } left[] = {
        {"device buffers", live(device_memory)}, {"pinned buffers", live(host_memory)}, {"streams", live_streams()},
        {"events", events}, {"graphs", graphs}, {"launchable graphs", launchables}, {"TensorRT objects", objects},
        {"contexts", retained},
    };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        if (left[i].count) note("LEAK %d %s", left[i].count, left[i].name);
    note("EXIT");
}
