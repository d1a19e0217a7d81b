/* What the Python bindings of TensorRT need to be imported, and nothing behind it: no builder and no runtime is ever made,
as beside a driver that is too old, which the caller's logger is told in the library's words. */

#if TENSORRT == 10
enum { LOG = 0 }; /* where ILogger::log stands among its virtual functions */
#else
enum { LOG = 4 };
#endif

static void *refuse(void *logger) {
    typedef void (*log)(void *logger, int severity, const char *message);
    ((*(log **)logger)[LOG])(logger, 1, "CUDA initialization failure with error: 35");
    return 0;
}
void *createInferBuilder_INTERNAL(void *logger, int version) { (void)version; return refuse(logger); }
void *createInferRuntime_INTERNAL(void *logger, int version) { (void)version; return refuse(logger); }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
