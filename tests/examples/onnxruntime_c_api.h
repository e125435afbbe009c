// The part of ONNX Runtime's C interface that examples/cpp uses, for machines without its headers (they are in no
// Python package; the library is). Members of OrtApi are found by their positions, which never change: versions of ONNX
// Runtime only append. Not for programs that ship: they take the header of their ONNX Runtime.

#pragma once

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 11

extern "C" {

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtSession OrtSession;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

typedef enum { ORT_LOGGING_LEVEL_WARNING = 2 } OrtLoggingLevel;
typedef enum { OrtArenaAllocator = 1 } OrtAllocatorType;
typedef enum { OrtMemTypeDefault = 0 } OrtMemType;
typedef enum {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 = 2,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 = 3
} ONNXTensorElementDataType;

typedef struct {
  void* unused_0_to_1[2];
  const char* (*GetErrorMessage)(const OrtStatus*);                                 // 2
  OrtStatus* (*CreateEnv)(OrtLoggingLevel, const char* name, OrtEnv**);             // 3
  void* unused_4_to_6[3];
  OrtStatus* (*CreateSession)(const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**);  // 7
  void* unused_8[1];
  OrtStatus* (*Run)(OrtSession*, const OrtRunOptions*, const char* const* input_names, const OrtValue* const* inputs,
                    size_t n_inputs, const char* const* output_names, size_t n_outputs, OrtValue** outputs);  // 9
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions**);                          // 10
  void* unused_11_to_23[13];
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions*, int);                      // 24
  void* unused_25_to_35[11];
  OrtStatus* (*SessionGetInputName)(const OrtSession*, size_t, OrtAllocator*, char**);   // 36
  OrtStatus* (*SessionGetOutputName)(const OrtSession*, size_t, OrtAllocator*, char**);  // 37
  void* unused_38_to_48[11];
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data, size_t n_bytes, const int64_t* shape,
                                               size_t n_axes, ONNXTensorElementDataType, OrtValue**);  // 49
  void* unused_50[1];
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);                            // 51
  void* unused_52_to_63[12];
  OrtStatus* (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, size_t*);  // 64
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);    // 65
  void* unused_66_to_68[3];
  OrtStatus* (*CreateCpuMemoryInfo)(OrtAllocatorType, OrtMemType, OrtMemoryInfo**);     // 69
  void* unused_70_to_75[6];
  OrtStatus* (*AllocatorFree)(OrtAllocator*, void*);                                // 76
  void* unused_77[1];
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator**);                     // 78
  void* unused_79_to_91[13];
  void (*ReleaseEnv)(OrtEnv*);                                                      // 92
  void (*ReleaseStatus)(OrtStatus*);                                                // 93
  void (*ReleaseMemoryInfo)(OrtMemoryInfo*);                                        // 94
  void (*ReleaseSession)(OrtSession*);                                              // 95
  void (*ReleaseValue)(OrtValue*);                                                  // 96
  void* unused_97_to_98[2];
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);                // 99
  void (*ReleaseSessionOptions)(OrtSessionOptions*);                                // 100
} OrtApi;

typedef struct {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase* OrtGetApiBase(void);

}  // extern "C"
